"""Writes the model of a run as a folder that other programs load, and checks it."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ajet.backbone.verl.refusals import lora_rank
from ajet.config.loading.load import load_config
from ajet.config.sections.root import AjetConfig
from ajet.errors import ConfigError, MissingExtraError, ModelError
from ajet.export.model_card import Card, model_card
from ajet.launcher.run_folder import checkpoint_of
from ajet.model_files import ADAPTER_CONFIG, adapter_base
from ajet.monitor.rollout_store import FOLDER as ROLLOUTS
from ajet.monitor.rollout_store import read_rollouts, rollout_path
from ajet.monitor.step_tables import steps_in
from ajet.schema.episode import Sample
from ajet.training.checkpoints import read_position
from ajet.training.model_folder import model_folder, whole_model
from ajet.training.weight_sync_check import probe_ids

logger = logging.getLogger(__name__)

Lora = Literal["merge", "keep"]
BOUND = 1e-4
"""Largest difference of a logprob, in float32, between the exported model and the engine."""
COARSE_BOUND = 0.5
"""The same to logprobs that were recorded in bfloat16 or float16."""
NUM_PROMPTS = 4
MAX_PROMPT = 512
"""Tokens of a prompt in the check."""
LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*")


@dataclass(slots=True, kw_only=True, frozen=True)
class Exported:
    """A finished export."""

    folder: Path
    dtype: str
    difference: float
    """Largest difference of a logprob to the engine with the checkpoint's weights, nats."""
    recorded: float | None
    """The same to logprobs that the run recorded; None: it recorded none of these weights."""


def export(
    run: Path, *, step: str | None, to: Path | None, dtype: str | None, lora: Lora
) -> Exported:
    """Export the model of a run.

    Args:
        run: the run's folder.
        step: a checkpoint's step; None: the newest.
        to: the folder to write; None: `export/step_...` in the run's folder.
        dtype: of the weights; None: as they were trained.
        lora: whether a LoRA run becomes a whole model or an adapter.

    Raises:
        ConfigError: there is no such checkpoint, or the folder is not empty.
        CheckpointError: the checkpoint is damaged.
        ModelError: the exported model does not compute what the engine computes.
    """
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"{run} is not the folder of a run: it has no config.yaml")
    number, checkpoint = checkpoint_of(run, step)
    if checkpoint is None:
        raise ConfigError(f"{run}: step 0 is the base model, which the run did not change")
    ajet = load_config(run / "config.yaml").ajet
    position = read_position(checkpoint)
    rank = _rank(ajet)
    if lora == "keep" and not rank:
        raise ConfigError("--lora keep: the run trained all weights, so there is no adapter")
    to = to or run / "export" / checkpoint.name
    base = model_folder(ajet.model.path)
    with _written(to) as partial:
        with _write_errors(to):
            made = _write(
                checkpoint, partial, dtype, (base, ajet, rank) if lora == "keep" else None
            )
        difference, recorded = _check(
            run,
            number,
            position.policy_version,
            checkpoint,
            partial,
            made,
            ajet,
            base if lora == "keep" else None,
        )
        card = Card(
            run=run,
            step=number,
            ajet=ajet,
            base=base,
            dtype=made,
            adapter_rank=rank if lora == "keep" else 0,
            difference=difference,
        )
        with _write_errors(to):
            (partial / "README.md").write_text(model_card(card), encoding="utf-8")
            for pattern in LICENCES:
                for file in base.glob(pattern):
                    shutil.copyfile(file, partial / file.name)
    return Exported(folder=to, dtype=made, difference=difference, recorded=recorded)


def _rank(ajet: AjetConfig) -> int:
    return lora_rank(ajet) if ajet.backbone == "verl" else ajet.lora.lora_rank


def _write(
    checkpoint: Path, folder: Path, dtype: str | None, adapter: tuple[Path, AjetConfig, int] | None
) -> str:
    heavy = _heavy()
    if adapter is None:
        return str(heavy.write_model(checkpoint, folder, dtype))
    if dtype is not None:
        raise ConfigError("--dtype: an adapter is written in float32, in which it is exact")
    if adapter_base(checkpoint) is not None:
        heavy.copy_adapter(checkpoint, folder)
        return "float32"
    base, ajet, rank = adapter
    heavy.write_adapter(base, checkpoint, folder, rank, ajet.model.path)
    return "float32"


def _check(
    run: Path,
    step: int,
    policy_version: int,
    checkpoint: Path,
    exported: Path,
    dtype: str,
    ajet: AjetConfig,
    base: Path | None,
) -> tuple[float, float | None]:
    """Differences of logprobs to the engine, and to the run's record.

    Raises:
        ModelError: one of them is larger than rounding explains.
    """
    heavy = _heavy()
    prompts = _prompts(run, checkpoint)
    sampled = heavy.sample_with_engine(checkpoint, prompts, dtype, ajet.trainer_common.seed)
    model = heavy.load_exported(exported, base)
    difference = heavy.largest_difference(model, sampled)
    if not difference <= BOUND:
        raise ModelError(
            f"the exported model does not compute what the engine computes: a logprob differs by "
            f"{difference:.2g}, more than {BOUND:g}; nothing was written"
        )
    recorded = heavy.difference_to_record(model, _samples(run, step + 1, ajet), policy_version)
    is_exact = dtype == heavy.stored_dtype(checkpoint) == "float32"
    bound = ajet.trainer_common.logprob_diff_bound if is_exact else COARSE_BOUND
    if recorded is not None and not recorded <= bound:
        raise ModelError(
            f"the exported model does not compute what the run's engine recorded in step "
            f"{step + 1}: a logprob differs by {recorded:.2g}, more than {bound:g}; nothing was "
            "written"
        )
    return difference, recorded


def _prompts(run: Path, checkpoint: Path) -> list[list[int]]:
    """Prompts of the run's last step; random ids if none is recorded."""
    steps = steps_in(run / ROLLOUTS) if (run / ROLLOUTS).is_dir() else []
    for step in reversed(steps):
        samples = [s for s in read_rollouts(rollout_path(run, step)) if s.loss_mask.any()]
        found = [s.ids[: int(s.loss_mask.argmax())].tolist()[-MAX_PROMPT:] for s in samples]
        found = [ids for ids in found if ids]
        if found:
            return found[:: max(1, len(found) // NUM_PROMPTS)][:NUM_PROMPTS]
    return [probe_ids(_vocabulary(checkpoint), seed) for seed in range(NUM_PROMPTS)]


def _vocabulary(checkpoint: Path) -> int:
    config = json.loads((whole_model(checkpoint) / "config.json").read_text(encoding="utf-8"))
    return int(config.get("text_config", config)["vocab_size"])


def _samples(run: Path, step: int, ajet: AjetConfig) -> Sequence[Sample]:
    """Some samples of a step; none if sampling cut the distribution, which changes logprobs."""
    path, rollout = rollout_path(run, step), ajet.rollout
    is_cut = rollout.top_p != 1.0 or rollout.top_k != 0 or rollout.response_format == "constrain"
    if is_cut or not path.is_file():
        return []
    return read_rollouts(path)[: 4 * NUM_PROMPTS]


@contextmanager
def _written(folder: Path) -> Iterator[Path]:
    """Yield a folder whose files get to their place when the block ends without an error.

    An empty folder that exists is filled rather than replaced: it may be the user's working
    directory, or a disk of its own.

    Raises:
        ConfigError: the folder exists and is not empty, or cannot be written.
    """
    folder = folder.resolve()
    is_there = folder.is_dir()
    aside = f".{folder.name}.partial-{os.getpid()}"
    partial = folder / aside if is_there else folder.with_name(aside)
    try:
        with _write_errors(folder):
            if folder.exists() and (not is_there or any(folder.iterdir())):
                raise ConfigError(
                    f"{folder} exists and is not empty; name another folder with --to"
                )
            partial.mkdir(parents=True)
        yield partial
        with _write_errors(folder):
            if not is_there:
                partial.rename(folder)
            # Without config.json it is not taken for a model yet.
            for file in sorted(partial.iterdir() if is_there else (), key=_is_config):
                file.rename(folder / file.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_config(file: Path) -> bool:
    return file.name in ("config.json", ADAPTER_CONFIG)


@contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    """Report a full disk, or a folder without permission, as an error of the user's choice.

    Raises:
        ConfigError: the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error}") from error


def _heavy() -> Any:
    try:
        from ajet.backbone.local import exported
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers", "safetensors"):
            raise
        raise MissingExtraError(error.name, "local") from None
    return exported
