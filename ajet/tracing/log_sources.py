"""Finds out what kind of log a path is, and reads what an earlier import has not seen of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ajet.errors import DataError
from ajet.tracing import run_calls, studio_database
from ajet.tracing.log_file import LogFile
from ajet.tracing.logged_calls import LoggedCall, TracedTask
from ajet.tracing.otel_json import Telemetry, is_telemetry
from ajet.tracing.request_log import calls_of_record, is_failed_request
from ajet.tracing.spans import Span, calls_of_spans

SUFFIXES = (".json", ".jsonl", ".ndjson", ".log", ".gz", ".sqlite", ".sqlite3", ".db")
"""Files of a folder that are read."""
FAILED_REQUESTS = "failed requests"
OTHER_RECORDS = "records that are no request"


@dataclass(slots=True, kw_only=True)
class ReadResult:
    """What is new in a source."""

    calls: list[LoggedCall] = field(default_factory=list)
    tasks: list[TracedTask] = field(default_factory=list)
    """Tasks that the source has as such: those of our own runs."""
    num_calls: int = 0
    num_documents: int = 0
    """Records of any kind."""
    problems: Counter[str] = field(default_factory=Counter)
    first_broken: str = ""
    position: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True, frozen=True)
class LogSource:
    """A file, or the folder of a run."""

    path: Path
    is_named: bool
    """Whether the settings name it; otherwise it is a file of a folder, which may be no log."""

    def read(self, stored: dict[str, Any] | None) -> ReadResult:
        """Read what was added after a stored position.

        Raises:
            DataError: the source cannot be read.
        """
        if self.path.is_dir():
            return _read_run(self.path, stored)
        try:
            is_database = studio_database.is_database(self.path)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror}") from error
        return (_read_database if is_database else _read_file)(self.path, stored)


def log_sources(paths: Sequence[str], without: Path) -> Iterator[LogSource]:
    """The files and runs that the paths name; a folder that is no run stands for its files.

    Args:
        paths: files and folders.
        without: a file that is no source: the output.

    Raises:
        DataError: there is no such path, or a folder has no log.
    """
    seen = {without.resolve()}
    for path in map(Path, paths):
        for found in _found_at(path):
            if found.resolve() not in seen:
                seen.add(found.resolve())
                yield LogSource(path=found, is_named=found == path)


def _found_at(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    if not path.is_dir() or run_calls.is_run(path):
        return [path]
    runs = [entry for entry in sorted(path.iterdir()) if entry.is_dir() and run_calls.is_run(entry)]
    inside = [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix in SUFFIXES
        and file.is_file()
        and not file.name.endswith(".position.json")
        and not any(run in file.parents for run in runs)
    ]
    if not runs and not inside:
        raise DataError(
            f"{path}: the folder has no log; expected files with one of the suffixes "
            f"{', '.join(SUFFIXES)}, or the folder of a run with calls/"
        )
    return [*runs, *inside]


def _read_run(path: Path, stored: dict[str, Any] | None) -> ReadResult:
    result = ReadResult()
    after = int((stored or {}).get("step", 0))
    tasks, count, last = run_calls.tasks_of_run(path, after, result.problems)
    result.tasks, result.num_calls, result.position = tasks, count, {"step": last}
    return result


def _read_database(path: Path, stored: dict[str, Any] | None) -> ReadResult:
    spans, position = studio_database.read_spans(path, stored)
    result = ReadResult(position=position, num_documents=len(spans))
    _add_spans(result, spans)
    return result


def _read_file(path: Path, stored: dict[str, Any] | None) -> ReadResult:
    file = LogFile(path, stored)
    telemetry = Telemetry()
    result = ReadResult()
    for place, document in file.documents():
        result.num_documents += 1
        if not isinstance(document, dict):
            result.problems[OTHER_RECORDS] += 1
        elif is_telemetry(document):
            telemetry.add(place, document)
        elif is_failed_request(document):
            result.problems[FAILED_REQUESTS] += 1
        else:
            calls = list(calls_of_record(document, place))
            result.calls += calls
            result.problems[OTHER_RECORDS] += not calls
    _add_spans(result, telemetry.spans())
    result.num_calls = len(result.calls)
    result.problems += file.problems
    result.first_broken, result.position = file.first_broken, file.position
    return result


def _add_spans(result: ReadResult, spans: list[Span]) -> None:
    result.problems[FAILED_REQUESTS] += sum(span.is_failed for span in spans)
    result.calls += calls_of_spans(spans)
    result.num_calls = len(result.calls)
