"""Reads logs, makes tasks of what is new in them, and adds the tasks to a JSONL file."""

from __future__ import annotations

import fcntl
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ajet.config.sections.tracing import TracingConfig
from ajet.errors import DataError
from ajet.monitor.durable_files import written_aside
from ajet.schema.task import Task
from ajet.task_filters.filtering import TaskFilters
from ajet.task_reader.jsonl_task_reader import JsonlLines
from ajet.tracing.log_sources import LogSource, log_sources
from ajet.tracing.logged_calls import Conversations, TracedTask, digest, key_of_task
from ajet.tracing.redaction import Redaction

logger = logging.getLogger(__name__)

KEY = "ajet.task_reader.tracing"
VERSION = 1
PROGRESS_EVERY_S = 10
SAME_QUERY = "same query as another task"


@dataclass(slots=True, kw_only=True)
class ImportReport:
    """What an import did."""

    output: str
    calls: int = 0
    """Requests to a model or agent that the new part of the logs has."""
    new: int = 0
    """Tasks that were added."""
    total: int = 0
    """Tasks that the file has now."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason -> number of lines, calls or tasks."""
    redacted: Counter[str] = field(default_factory=Counter)
    """Redaction -> number of texts that it changed."""
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report in words."""
        lines = [f"{self.output}: {self.new} new tasks of {self.calls} calls, {self.total} in all"]
        if counts := _counts(self.left_out):
            lines.append(f"left out: {counts}")
        if counts := _counts(self.redacted):
            lines.append(f"redacted texts: {counts}")
        return [*lines, *self.notes]


def import_traces(settings: TracingConfig, *, from_start: bool = False) -> ImportReport:
    """Add the new tasks of all sources to the output file.

    Args:
        settings: the section `task_reader.tracing`.
        from_start: read the sources from their beginning; tasks that the file has are not added
            again, but those that were removed from it are.

    Raises:
        ConfigError: a filter or redaction cannot be loaded.
        DataError: a source or the file cannot be read, or nothing in a source is a call.
    """
    output = Path(settings.train_output_path)
    output.parent.mkdir(parents=True, exist_ok=True)
    filters = TaskFilters.load(settings.filters, settings.filter_model, f"{KEY}.filters")
    redaction = Redaction(settings.redaction)
    with _locked(output):
        positions = {} if from_start else _read_positions(output)
        known = read_tasks(output)
        report = ImportReport(output=str(output))
        found = _found(settings, output, positions, report)
        new = _without_known((redaction(item.task) for item in found), known, report)
        filters.remember(known)
        kept = filters.kept(new)
        report.left_out += filters.dropped
        report.redacted += redaction.changed
        report.new, report.total = len(kept), len(known) + len(kept)
        _append(output, kept)
        # Last: what a killed import has not written is read again.
        _write_positions(output, positions)
    return report


def read_tasks(path: Path) -> list[Task]:
    """The tasks of an earlier import; none without a file.

    Raises:
        DataError: a line is malformed, for example by an edit.
    """
    if not path.exists() or path.stat().st_size == 0:
        return []
    return list(JsonlLines(path, "main_query").index())


def _found(
    settings: TracingConfig, output: Path, positions: dict[str, Any], report: ImportReport
) -> Iterator[TracedTask]:
    """The tasks of the new part of every source; fills in positions and report."""
    conversations = Conversations(needs_answer=settings.require_answer)
    ready: list[TracedTask] = []
    for source in log_sources(settings.all_sources, output):
        _read(source, positions, conversations, ready, report)
    yield from ready
    yield from conversations.tasks()
    report.left_out += conversations.left_out


def _read(
    source: LogSource,
    positions: dict[str, Any],
    conversations: Conversations,
    ready: list[TracedTask],
    report: ImportReport,
) -> None:
    name = str(source.path.resolve())
    is_first = name not in positions and source.is_named
    result = source.read(positions.get(name))
    for call in result.calls:
        conversations.add(call)
    ready += result.tasks
    count = result.num_calls
    if is_first and not count and result.num_documents:
        raise DataError(
            f"{source.path}: none of {result.num_documents} records is a request to a model; "
            "expected OpenTelemetry with the GenAI conventions, a log of requests to OpenAI's or "
            "Anthropic's API, a database of AgentScope Studio, or the folder of a run"
        )
    if is_first and not count and result.problems:
        raise DataError(
            f"{source.path}: no line is a JSON object (the first is {result.first_broken}); "
            "expected a log in JSON, one record per line"
        )
    report.calls += count
    report.left_out += result.problems
    if result.first_broken:
        report.notes.append(f"the first broken line: {result.first_broken}")
    positions[name] = result.position


def _without_known(tasks: Iterator[Task], known: list[Task], report: ImportReport) -> list[Task]:
    """The tasks whose query is new, after what the user said before it."""
    keys = {key_of_task(task) for task in known}
    ids = {task.task_id for task in known}
    new = []
    for task in _told_of(tasks):
        key = key_of_task(task)
        # From the redacted text: nothing of the original can be guessed from its hash.
        task = task if task.task_id else task.model_copy(update={"task_id": f"trace-{digest(key)}"})
        if key in keys or task.task_id in ids:
            report.left_out[SAME_QUERY] += 1
            continue
        keys.add(key)
        ids.add(task.task_id)
        new.append(task)
    return new


def _told_of(tasks: Iterator[Task]) -> Iterator[Task]:
    """Log how far a long import is."""
    told_s = time.monotonic()
    for number, task in enumerate(tasks, 1):
        if time.monotonic() > told_s + PROGRESS_EVERY_S:
            told_s = time.monotonic()
            logger.info("%d tasks of the logs are read and redacted", number)
        yield task


def _append(output: Path, tasks: list[Task]) -> None:
    """Add one line per task, in a single write, after a line that may lack its end."""
    if not tasks:
        output.touch()
        return
    lines = [task.model_dump_json(exclude_defaults=True) + "\n" for task in tasks]
    with output.open("ab+") as file:
        end = file.seek(0, 2)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                lines.insert(0, "\n")
        file.write("".join(lines).encode())


def _position_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.position.json")


def _read_positions(output: Path) -> dict[str, Any]:
    """How far each source has been read; nothing without the file, or if the tasks were deleted."""
    path = _position_path(output)
    if not path.exists() or not output.exists():
        return {}
    try:
        stored = json.loads(path.read_text("utf-8"))
        assert stored["version"] == VERSION
        return dict(stored["sources"])
    except (ValueError, KeyError, TypeError, AssertionError):
        logger.warning("%s is damaged: the sources are read from their beginning", path)
        return {}


def _write_positions(output: Path, positions: dict[str, Any]) -> None:
    content = json.dumps({"version": VERSION, "sources": positions}, indent=1)
    with written_aside(_position_path(output)) as aside:
        aside.write_text(content + "\n", encoding="utf-8")


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """One import at a time: two would add the same tasks."""
    path = output.with_name(f".{output.name}.lock")
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.items() if count)
