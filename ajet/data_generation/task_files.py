"""The folder of generated tasks: files that a person can read and edit, and what made them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ajet.config.sections.task_reader import DataGenerationConfig
from ajet.data_generation.generate import Material, generate
from ajet.errors import DataError
from ajet.model_client import PLACE
from ajet.monitor.durable_files import written_aside
from ajet.schema.task import Task
from ajet.task_reader.jsonl_task_reader import JsonlLines

logger = logging.getLogger(__name__)

TRAINING, VALIDATION, ABOUT = "tasks.jsonl", "validation_tasks.jsonl", "generation.json"
NO_DIFFERENCE = {"output_dir", "num_workers", "model_client"}
"""Settings that change no task."""


@dataclass(slots=True, kw_only=True)
class GenerationReport:
    """What a generation did."""

    folder: Path
    training: int = 0
    validation: int = 0
    num_questions: int = 0
    num_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    stopped: str = ""
    """Why the generation ended early; empty: it is complete."""
    is_new: bool = True
    """False: the files were there already."""
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report in words."""
        made = f"{self.training} tasks, {self.validation} for validation"
        if not self.is_new:
            return [f"{self.folder}: {made}; nothing has changed since they were made", *self.notes]
        lines = [
            f"{self.folder}: {made}; {self.num_questions} questions to the model, {self.num_kept} "
            "of them answered from disk"
        ]
        if counts := ", ".join(f"{name} {count}" for name, count in self.dropped.items() if count):
            lines.append(f"dropped: {counts}")
        if self.stopped:
            lines.append(f"ended early, and continues when it is started again: {self.stopped}")
        return [*lines, *self.notes]


class TaskFiles:
    """The files of one generation.

    Args:
        settings: the section `task_reader.data_generation`.
    """

    def __init__(self, settings: DataGenerationConfig) -> None:
        self._settings = settings
        self.folder = Path(settings.output_dir)

    @property
    def is_complete(self) -> bool:
        """Whether tasks were made, by whatever settings."""
        return bool(self._about().get("is_complete")) and (self.folder / TRAINING).exists()

    def training(self) -> list[Task]:
        """The training tasks, as they stand in the file."""
        return _read(self.folder / TRAINING)

    def validation(self) -> list[Task]:
        """The validation tasks, as they stand in the file."""
        return _read(self.folder / VALIDATION)

    def make(self, *, overwrite: bool = False) -> GenerationReport:
        """Make the tasks, unless the same settings and documents have made them already.

        Files that were edited by hand are kept under another name.

        Args:
            overwrite: make them anyway.

        Raises:
            ConfigError: a filter cannot be loaded, or the model's key is missing.
            DataError: documents or examples cannot be read.
            ModelCallError: too many questions have no usable answer.
        """
        material = Material.read(self._settings)
        fingerprint = self._fingerprint(material)
        if self.is_complete and self._about()["fingerprint"] == fingerprint and not overwrite:
            return GenerationReport(
                folder=self.folder,
                training=len(self.training()),
                validation=len(self.validation()),
                is_new=False,
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._recording():
            made = generate(self._settings, material)
        validation = [*made.about_documents, *material.examples]
        report = GenerationReport(
            folder=self.folder,
            training=len(made.like_examples),
            validation=len(validation),
            num_questions=made.num_questions,
            num_kept=made.num_kept,
            dropped=made.dropped,
            stopped=str(made.stopped or ""),
        )
        report.notes += self._keep_edited()
        self._write(report, fingerprint, made.like_examples, validation)
        return report

    def is_made_by_these_settings(self) -> bool:
        """Whether settings, documents and examples are those that made the tasks."""
        material = Material.read(self._settings)
        return bool(self._about().get("fingerprint") == self._fingerprint(material))

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Calls are recorded in the folder of the tasks, and count against one budget there."""
        before, PLACE.run_folder = PLACE.run_folder, self.folder
        try:
            yield
        finally:
            PLACE.run_folder = before

    def _fingerprint(self, material: Material) -> str:
        settings = self._settings
        parts: dict[str, Any] = settings.model_dump(exclude=NO_DIFFERENCE)
        parts["document_reader"].pop("document_path")
        model = settings.model
        parts["model"] = [model.model, model.base_url, model.temperature, dict(model.options)]
        parts["documents"] = [[document.name, document.text] for document in material.documents]
        parts["examples"] = [task.model_dump() for task in material.examples]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def _about(self) -> dict[str, Any]:
        try:
            about = json.loads((self.folder / ABOUT).read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return about if isinstance(about, dict) and "fingerprint" in about else {}

    def _keep_edited(self) -> Iterator[str]:
        """Move files that are not as they were written out of the way."""
        digests = self._about().get("files", {})
        for name in (TRAINING, VALIDATION):
            path = self.folder / name
            if path.exists() and _digest(path) != digests.get(name):
                for number in range(1, 1000):
                    kept = path.with_name(f"{path.stem}.edited_{number}.jsonl")
                    if not kept.exists():
                        break
                path.rename(kept)
                yield f"{path} was edited; it is kept as {kept}"

    def _write(
        self,
        report: GenerationReport,
        fingerprint: str,
        training: Sequence[Task],
        validation: Sequence[Task],
    ) -> None:
        for name, tasks in ((TRAINING, training), (VALIDATION, validation)):
            with written_aside(self.folder / name) as aside:
                lines = [task.model_dump_json(exclude_defaults=True) + "\n" for task in tasks]
                aside.write_text("".join(lines), encoding="utf-8")
        about = {
            "fingerprint": fingerprint,
            "is_complete": not report.stopped,
            "files": {name: _digest(self.folder / name) for name in (TRAINING, VALIDATION)},
            "dropped": dict(report.dropped),
            "questions": report.num_questions,
            "answered_from_disk": report.num_kept,
        }
        with written_aside(self.folder / ABOUT) as aside:
            aside.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> list[Task]:
    if not path.exists() or path.stat().st_size == 0:
        return []
    return list(JsonlLines(path, "main_query").index())


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def require_tasks(report: GenerationReport) -> None:
    """Refuse to train on a generation that ended early, or that has no task.

    Raises:
        DataError: with the report.
    """
    if report.stopped or not report.training:
        raise DataError("; ".join(report.lines()))
