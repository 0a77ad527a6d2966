"""Logs as programs write them, for tests: spans, databases of AgentScope Studio, requests."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from ajet.config.sections.tracing import TracingConfig
from ajet.schema.task import Task
from ajet.tracing.import_traces import ImportReport, import_traces, read_tasks

STUDIO_BEFORE = """CREATE TABLE span_table (id varchar PRIMARY KEY NOT NULL,
    traceId varchar NOT NULL,
    parentSpanId varchar, name varchar NOT NULL, kind varchar NOT NULL, startTime varchar NOT NULL,
    endTime varchar NOT NULL, attributes json NOT NULL, events json, status varchar NOT NULL,
    statusMessage varchar, latencyMs float NOT NULL, runId varchar)"""
STUDIO_NOW = """CREATE TABLE span_table (id varchar PRIMARY KEY NOT NULL, traceId varchar NOT NULL,
    spanId varchar NOT NULL, parentSpanId varchar, name varchar NOT NULL, kind integer NOT NULL,
    startTimeUnixNano varchar NOT NULL, endTimeUnixNano varchar NOT NULL, attributes json NOT NULL,
    events json, links json, status json NOT NULL, resource json NOT NULL, scope json NOT NULL,
    operationName varchar, model varchar, runId varchar, latencyNs float NOT NULL)"""


def chat_request(query: str, answer: str | None = "42", **fields: Any) -> dict[str, Any]:
    """A line of a log of OpenAI's API."""
    messages = [{"role": "user", "content": query}]
    record: dict[str, Any] = {"request": {"model": "m-1", "messages": messages}, **fields}
    if answer is not None:
        message = {"role": "assistant", "content": answer}
        record["response"] = {"choices": [{"message": message, "finish_reason": "stop"}]}
    return record


def write_lines(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def attribute_list(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """Attributes as OTLP writes them."""
    return [{"key": key, "value": {"stringValue": str(x)}} for key, x in attributes.items()]


def otlp(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": [*spans]}]}]}


def span(number: int, attributes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "traceId": "ab" * 16,
        "spanId": f"{number:016x}",
        "name": "chat m-1",
        "startTimeUnixNano": str(1_700_000_000_000_000_000 + number),
        "attributes": attribute_list(attributes),
        **fields,
    }


def parts(role: str, text: str) -> dict[str, Any]:
    """A message of the GenAI conventions."""
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def messages_json(*pairs: tuple[str, str]) -> str:
    return json.dumps([parts(role, text) for role, text in pairs])


def studio(path: Path, layout: str, rows: list[dict[str, Any]]) -> Path:
    """A database of AgentScope Studio."""
    now = {"startTimeUnixNano": "1", "endTimeUnixNano": "2", "kind": 1, "latencyNs": 1.0}
    now |= {"status": '{"code": 1}', "resource": "{}", "scope": "{}"}
    before = {"startTime": "2025-10-01T08:00:00Z", "endTime": "2025-10-01T08:00:01Z", "kind": "1"}
    before |= {"status": "OK", "latencyMs": 1.0}
    with sqlite3.connect(path) as connection:
        connection.execute(layout.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"))
        for number, row in enumerate(
            rows, connection.execute("SELECT count(*) FROM span_table").fetchone()[0]
        ):
            values = {"id": f"s{number}", "traceId": "t1", "name": "ReActAgent.reply"}
            if layout is STUDIO_NOW:
                values |= {**now, "spanId": f"s{number}"}
            else:
                values |= before
            values |= {k: json.dumps(v) if isinstance(v, dict) else v for k, v in row.items()}
            marks = ", ".join("?" for _ in values)
            columns = ", ".join(values)
            connection.execute(
                f"INSERT INTO span_table ({columns}) VALUES ({marks})", list(values.values())
            )
    connection.close()
    return path


def msg(role: str, content: Any) -> str:
    """A message as AgentScope's first version logged it."""
    return f"Msg(id='x', name='n', content={content!r}, role={role!r}, metadata=None)"


def imported(
    folder: Path, *sources: Path | str, **settings: Any
) -> tuple[list[Task], ImportReport]:
    """The tasks of the output file after an import, and the report."""
    output = folder / "out" / "tasks.jsonl"
    given = {"train_output_path": str(output), "sources": [str(path) for path in sources]}
    report = import_traces(TracingConfig.model_validate(given | settings))
    return read_tasks(output), report


def pairs_of(tasks: list[Task]) -> list[tuple[str, Any]]:
    return [(task.main_query, task.metadata.get("answer")) for task in tasks]
