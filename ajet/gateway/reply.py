"""The gateway's answer to one HTTP request, before a transport sends it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from ajet.errors import RequestError


@dataclass(slots=True, kw_only=True)
class Reply:
    """An HTTP response with a body, or with a stream of server-sent events."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    body: bytes = b""
    events: AsyncGenerator[bytes, None] | None = None
    """Each item is one event with its blank line. Closing the iterator cancels the request."""


def json_reply(content: Any, *, status: int = 200) -> Reply:
    """A reply whose body is JSON."""
    return Reply(status=status, body=json.dumps(content, ensure_ascii=False).encode())


def event_reply(events: AsyncGenerator[bytes, None]) -> Reply:
    """A reply that is a stream of server-sent events."""
    headers = {"content-type": "text/event-stream", "cache-control": "no-cache"}
    return Reply(headers=headers, events=events)


def event(content: Any, name: str | None = None) -> bytes:
    """One server-sent event."""
    head = "" if name is None else f"event: {name}\n"
    # In ASCII: some clients take U+2028 for the end of a line.
    return f"{head}data: {json.dumps(content)}\n\n".encode()


def parse_json(body: bytes) -> Any:
    """Parse a request's body.

    Raises:
        RequestError: it is not JSON.
    """
    try:
        content = json.loads(body)
        if b"\\u" in body:  # an escape may spell half a character, which no tokenizer takes
            json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise RequestError(f"body: not valid JSON: {error}") from error
    return content
