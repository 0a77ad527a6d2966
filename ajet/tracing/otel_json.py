"""OpenTelemetry's JSON as spans: what a collector writes, and what its SDK prints."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from ajet.tracing.spans import Span, SpanEvent, is_failed_status

KEPT_WHOLE = ("output", "input.args", "input.kwargs", "agentscope.function", "gen_ai.tool.call")
"""Attributes whose values are no groups of further attributes."""
SCOPES = ("scopeSpans", "instrumentationLibrarySpans", "scope_spans")


def is_telemetry(document: Any) -> bool:
    """Whether a document of a log is OpenTelemetry's."""
    if not isinstance(document, Mapping):
        return False
    keys = {"resourceSpans", "resource_spans", "resourceLogs", "resource_logs", *SCOPES}
    if document.keys() & keys:
        return True
    return "attributes" in document and bool(
        document.keys() & {"traceId", "trace_id", "context", "spanId", "span_id"}
    )


class Telemetry:
    """Collects the spans of a file; a trace is complete when the last one is in."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._records: dict[tuple[str, str], list[SpanEvent]] = {}
        self._places: dict[tuple[str, str], str] = {}

    def add(self, place: str, document: Mapping[str, Any]) -> None:
        """Add the spans and log records of one document."""
        for resource in _each(document, "resourceSpans", "resource_spans"):
            for scope in _each(resource, *SCOPES):
                for span in _each(scope, "spans"):
                    self._spans.append(span_of(span, place))
        for resource in _each(document, "resourceLogs", "resource_logs"):
            for scope in _each(resource, "scopeLogs", "scope_logs"):
                for record in _each(scope, "logRecords", "log_records"):
                    self._add_record(place, record)
        for scope in _each(document, *SCOPES):
            self._spans += [span_of(span, place) for span in _each(scope, "spans")]
        if "attributes" not in document:
            return
        if "name" in document:
            self._spans.append(span_of(document, place))
        else:
            self._add_record(place, document)

    def spans(self) -> list[Span]:
        """All spans, with the log records that belong to them."""
        spans = {(span.trace_id, span.span_id): span for span in self._spans}
        for key, events in self._records.items():
            span = spans.get(key)
            if span is None:  # only the log records were kept
                attributes: dict[str, Any] = {}
                for event in events:
                    attributes |= event.attributes
                attributes = {k: v for k, v in attributes.items() if k.startswith("gen_ai.")}
                span = Span(
                    trace_id=key[0],
                    span_id=key[1],
                    parent_id="",
                    name="",
                    attributes=attributes,
                    place=self._places[key],
                )
                spans[key] = span
            span.events += events
        return list(spans.values())

    def _add_record(self, place: str, record: Mapping[str, Any]) -> None:
        attributes = attributes_of(record.get("attributes"))
        name = record.get("eventName") or record.get("event_name") or attributes.get("event.name")
        key = (_id(record, "traceId", "trace_id"), _id(record, "spanId", "span_id"))
        body = record.get("body")
        if isinstance(body, Mapping) and len(body) == 1 and next(iter(body)).endswith("Value"):
            body = plain_value(body)
        event = SpanEvent(name=str(name or ""), attributes=attributes, body=body)
        self._records.setdefault(key, []).append(event)
        self._places.setdefault(key, place)


def span_of(span: Mapping[str, Any], place: str) -> Span:
    """A span as OTLP or as the SDK for Python writes it."""
    context = span.get("context") if isinstance(span.get("context"), Mapping) else span
    assert isinstance(context, Mapping)
    events = span.get("events")
    return Span(
        trace_id=_id(context, "traceId", "trace_id"),
        span_id=_id(context, "spanId", "span_id"),
        parent_id=_id(span, "parentSpanId", "parent_span_id", "parentId", "parent_id"),
        name=str(span.get("name") or ""),
        attributes=attributes_of(span.get("attributes")),
        events=[
            SpanEvent(
                name=str(event.get("name") or ""),
                attributes=attributes_of(event.get("attributes")),
                body=event.get("body"),
            )
            for event in (events if isinstance(events, list) else [])
            if isinstance(event, Mapping)
        ],
        time=_time(span),
        is_failed=is_failed_status(span.get("status")),
        place=place,
    )


def attributes_of(given: Any) -> dict[str, Any]:
    """Attributes under dotted names: from OTLP's list of keys, or from an object, nested or not."""
    if isinstance(given, list):
        pairs = {
            str(item["key"]): plain_value(item.get("value"))
            for item in given
            if isinstance(item, Mapping) and "key" in item
        }
        return pairs
    flat: dict[str, Any] = {}
    if isinstance(given, Mapping):
        _flatten("", given, flat)
    return flat


def plain_value(value: Any) -> Any:
    """An `AnyValue` of OTLP as a plain value."""
    if not isinstance(value, Mapping):
        return value
    if "arrayValue" in value:
        return [plain_value(item) for item in _each(value["arrayValue"], "values")]
    if "kvlistValue" in value:
        pairs = _each(value["kvlistValue"], "values")
        return {str(item.get("key")): plain_value(item.get("value")) for item in pairs}
    if "intValue" in value:
        number = value["intValue"]
        is_short = isinstance(number, int) or re.fullmatch(r"-?[0-9]{1,20}", str(number))
        return int(number) if is_short else number
    if "bytesValue" in value:
        try:
            return base64.b64decode(str(value["bytesValue"])).decode("utf-8", "replace")
        except ValueError:
            return ""
    return next(
        (value[key] for key in ("stringValue", "boolValue", "doubleValue") if key in value), None
    )


def _flatten(prefix: str, given: Mapping[str, Any], into: dict[str, Any]) -> None:
    for key, value in given.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and not path.startswith(KEPT_WHOLE):
            _flatten(f"{path}.", value, into)
        else:
            into[path] = value


def _each(given: Any, *keys: str) -> Iterator[Mapping[str, Any]]:
    """The objects of the list that stands under one of the keys."""
    for key in keys:
        items = given.get(key) if isinstance(given, Mapping) else None
        for item in items if isinstance(items, list) else []:
            if isinstance(item, Mapping):
                yield item


def _id(given: Mapping[str, Any], *keys: str) -> str:
    found = next((given[key] for key in keys if given.get(key)), "")
    return str(found).removeprefix("0x")


def _time(span: Mapping[str, Any]) -> str:
    """When a span began, as ISO text, which sorts by time."""
    keys = ("startTimeUnixNano", "start_time_unix_nano", "start_time", "startTime")
    found = str(next((span[key] for key in keys if span.get(key)), ""))
    if not re.fullmatch(r"[0-9]{1,25}", found):
        return found
    seconds, nanoseconds = divmod(int(found), 10**9)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return found
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"
