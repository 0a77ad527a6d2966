"""What a transport sends back."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from ajet.errors import RequestError


@dataclass(slots=True, kw_only=True)
class Reply:
    """A body, or a stream of server-sent events."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    body: bytes = b""
    events: AsyncGenerator[bytes, None] | None = None
    """Each one event, complete with its blank line. Closing the iterator cancels the request."""


def json_reply(content: Any, *, status: int = 200) -> Reply:
    """A JSON body."""
    return Reply(status=status, body=json.dumps(content, ensure_ascii=False).encode())


def event_reply(events: AsyncGenerator[bytes, None]) -> Reply:
    """A stream."""
    headers = {"content-type": "text/event-stream", "cache-control": "no-cache"}
    return Reply(headers=headers, events=events)


def event(content: Any, name: str | None = None) -> bytes:
    """One server-sent event, in ASCII: some clients take U+2028 for the end of a line."""
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {json.dumps(content)}\n\n".encode()


def parse_json(body: bytes) -> Any:
    """The request's body.

    Raises:
        RequestError: it is not JSON.
    """
    try:
        content = json.loads(body)
        if b"\\u" in body:  # may spell half of a character, which no tokenizer takes
            json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise RequestError(f"body: not valid JSON: {error}") from error
    return content
