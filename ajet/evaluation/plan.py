"""Which attempts an evaluation makes, and what decides their results.

An evaluation that was interrupted continues only with the same model, code, tasks and settings.
Other ones are another evaluation, with a folder of its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ajet.class_path import split_class_path
from ajet.config.sections.root import RootConfig
from ajet.config.shown_settings import flat_without_secrets
from ajet.evaluation.subject import Subject
from ajet.schema.task import Task
from ajet.training.episodes import validation_sampling

BLOCK, NUM_BLOCKS = 4096, 1024

ONLY_FOR_TRAINING = (
    "project_name",
    "experiment_name",
    "experiment_dir",
    "backbone",
    "debug",
    "interchange_server",
    "lora",
    "trainer_common",
    "trinity",
    "verl",
)
"""Sections of `ajet:` that do not change the result of an attempt, or are counted otherwise."""

WITHOUT_EFFECT = re.compile(
    r"""^model\.(path|device|torch_num_threads)$   # counted as weights, or only faster
    | ^rollout\.(user_workflow|num_repeat|max_env_worker|ray_actors|validation\b.*|vllm\b.*)$
    | ^data\.(train_batch_size|shuffle)$
    | ^task_reader\b(?!.*env_action_preference)   # the tasks themselves count
    | ^rollout\.(temperature|top_p|top_k|dynamic_sampling.*|max_failure_share)$
    | ^task_judge\.(judge_type|judge_protocol)$
    | ^task_runner\.services
    | ^environment\.url$
    | (timeout_s|patience_s|deadline_s|max_retries|max_tries|api_key_env|base_url|max_concurrent)$
    | \.(cache|cache_dir|max_calls|max_total_tokens)$""",
    re.VERBOSE,
)
"""Settings of the other sections of which the same is true: limits, addresses, and so on."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Plan:
    """Which attempts an evaluation makes."""

    subject: Subject
    num_samples: int
    """Attempts at each task."""
    split: str = "validation"
    num_tasks: int | None = None
    """Only the first tasks; None: all."""
    greedy: bool = False
    """Temperature 0."""

    def identity(self, tasks: Sequence[Task]) -> dict[str, Any]:
        """All that decides the results; two evaluations with the same one are the same."""
        ajet = self.subject.config.ajet
        texts = [task.model_dump_json() for task in tasks]
        return {
            "model": self.subject.name,
            "weights": self.subject.url or weights_digest(Path(ajet.model.path)),
            "workflow": ajet.rollout.user_workflow,
            "judge": ajet.task_judge.judge_class,
            "code": code_digest([ajet.rollout.user_workflow, ajet.task_judge.judge_class]),
            "settings": deciding_settings(self.subject.config),
            "sampling": self.sampling().model_dump(),
            "num_samples": self.num_samples,
            "split": self.split,
            "num_tasks": len(tasks),
            "tasks": hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16],
            "seed": ajet.trainer_common.seed,
            "at_once": ajet.rollout.max_env_worker,
        }

    def sampling(self) -> Any:
        """The defaults of requests: those of validation, or greedy."""
        defaults = validation_sampling(self.subject.config.ajet.rollout)
        return defaults.model_copy(update={"temperature": 0.0}) if self.greedy else defaults


def weights_digest(folder: Path) -> str:
    """Names a model folder's contents: its manifest if it is a checkpoint, else its files.

    Of each file it reads the size and some blocks, because a model may have hundreds of gigabytes.
    """
    manifest = folder / "manifest.json"
    if manifest.is_file():
        return _digest(manifest.read_bytes())
    if not folder.is_dir():
        return _digest(str(folder).encode())
    files = sorted(path for path in folder.glob("*") if path.is_file())
    return _digest(*(part for path in files for part in (path.name.encode(), *_blocks(path))))


def _blocks(path: Path) -> Iterator[bytes]:
    """The size of a file, and blocks of it at equal distances."""
    size = path.stat().st_size
    yield str(size).encode()
    with path.open("rb") as file:
        for position in range(0, size, max(BLOCK, size // NUM_BLOCKS)):
            file.seek(position)
            yield file.read(BLOCK)


def code_digest(class_paths: Sequence[str | None]) -> str:
    """Names the contents of the files that define workflow and judge, but not what they import."""
    found = []
    for path in class_paths:
        where, _ = split_class_path(path or "") or ("", "")
        if where and not where.endswith(".py"):
            spec = find_spec(where)
            where = (spec and spec.origin) or ""
        found.append(Path(where).read_bytes() if Path(where).is_file() else b"")
    return _digest(*found)


def deciding_settings(config: RootConfig) -> dict[str, Any]:
    """The settings that may change a result, where they differ from the defaults; flat."""
    given = config.model_dump(mode="json", exclude_defaults=True)
    ajet = given.pop("ajet")
    for section in ONLY_FOR_TRAINING:
        ajet.pop(section, None)
    flat = dict(flat_without_secrets({**ajet, **given}))
    return {key: value for key, value in sorted(flat.items()) if not WITHOUT_EFFECT.search(key)}


def changed_settings(before: Any, now: dict[str, Any]) -> list[str]:
    """The keys of settings that two evaluations do not have in common."""
    before = before if isinstance(before, dict) else {}
    missing = object()
    keys = sorted({*before, *now})
    return [key for key in keys if before.get(key, missing) != now.get(key, missing)]


def _digest(*parts: bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(b"%d " % len(part) + part)
    return found.hexdigest()[:16]
