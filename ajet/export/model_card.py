"""The model card of an exported model: a `README.md` as the Hugging Face hub reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ajet.config.sections.root import AjetConfig
from ajet.config.shown_settings import read_settings
from ajet.monitor.metrics_log import read_metrics
from ajet.monitor.run_record import read_processes

SETTINGS = (
    "ajet.backbone",
    "ajet.rollout.user_workflow",
    "ajet.task_reader.type",
    "ajet.rollout.num_repeat",
    "ajet.rollout.temperature",
    "ajet.data.train_batch_size",
    "ajet.trainer_common.algorithm.adv_estimator",
    "ajet.trainer_common.algorithm.policy_loss",
    "ajet.trainer_common.optim.lr",
    "ajet.trainer_common.seed",
)
"""Settings that the card shows; the run's `config.yaml` has all of them."""
METRICS = re.compile(r"eval/.*|reward/mean")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(slots=True, kw_only=True, frozen=True)
class Card:
    """What the card tells."""

    run: Path
    step: int
    ajet: AjetConfig
    base: Path
    """Folder of the base model."""
    dtype: str
    adapter_rank: int
    """0: the whole model."""
    difference: float


def model_card(card: Card) -> str:
    """The card, in Markdown with its YAML header."""
    name = f"{card.run.resolve().name}, step {card.step}"
    licence = licence_of(card.base)
    base = card.ajet.model.path if _is_hub_name(card.ajet.model.path) else card.base.name
    header: dict[str, Any] = {"tags": ["agentjet", "reinforcement-learning"]}
    header |= {"pipeline_tag": "text-generation"}
    header |= {"library_name": "peft" if card.adapter_rank else "transformers"}
    header |= {"base_model": base} if _is_hub_name(base) else {}
    header |= {"license": licence} if licence else {}
    kind = f"a LoRA adapter of rank {card.adapter_rank}" if card.adapter_rank else "a whole model"
    lines = [
        "---",
        yaml.safe_dump(header, sort_keys=False).strip(),
        "---",
        "",
        f"# {name}",
        "",
        f"This is {kind} ({card.dtype}), tuned with AgentJet from `{base}` by reinforcement "
        f"learning on an agent's task. Licence of the base model: {licence or 'not stated'}.",
        "",
        f"Its logprobs differ from those of the run's engine by at most {card.difference:.1e} in "
        "float32.",
        "",
        *_section("Metrics", ("metric", "value", "step"), _metrics(card)),
        *_section("Settings", ("setting", "value"), _settings(card.run)),
        *_section("Versions", ("package", "version"), _versions(card.run)),
    ]
    return "\n".join(lines) + "\n"


def licence_of(base: Path) -> str | None:
    """The licence that the base model's card names; None: it names none."""
    path = base / "README.md"
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    match = re.match(r"---\n(.*?)\n---", text, re.S)
    try:
        header = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        return None
    licence = header.get("license") if isinstance(header, dict) else None
    return licence if isinstance(licence, str) else None


def _section(title: str, names: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> list[str]:
    found = [f"| {' | '.join(_cell(each) for each in row)} |" for row in rows]
    if not found:
        return []
    return [f"## {title}", "", f"| {' | '.join(names)} |", "|---" * len(names) + "|", *found, ""]


def _metrics(card: Card) -> Iterator[tuple[str, ...]]:
    """The last value of each metric up to the step."""
    last: dict[str, tuple[float, int]] = {}
    for line in read_metrics(card.run):
        if line["step"] <= card.step:
            last |= {n: (v, line["step"]) for n, v in line.items() if METRICS.fullmatch(n)}
    for name, (value, step) in sorted(last.items()):
        yield name, f"{value:.4g}", str(step)


def _settings(run: Path) -> Iterator[tuple[str, ...]]:
    settings, _ = read_settings(run)
    for name in SETTINGS:
        if settings.get(name) is not None:
            value = settings[name]
            # A path of the machine on which the run was made says nothing elsewhere.
            text = value.rpartition("/")[2] if isinstance(value, str) else json.dumps(value)
            yield name, text


def _versions(run: Path) -> Iterator[tuple[str, ...]]:
    for process in read_processes(run)[-1:]:
        yield "python", str(process.get("python"))
        yield from sorted(process.get("versions", {}).items())


def _is_hub_name(name: str) -> bool:
    return HUB_NAME.fullmatch(name) is not None and not Path(name).exists()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
