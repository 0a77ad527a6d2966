"""Logs of requests to OpenAI's or Anthropic's API, one JSON object per request.

An object has the request and the response, under one of the usual names, or the fields of a request
beside a response. A transcript alone (`messages` that end with an answer) counts as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ajet.tracing.chat_messages import chat_messages, from_json_text, text_of, tool_definitions
from ajet.tracing.logged_calls import LoggedCall

REQUEST_KEYS = ("request", "request_body", "req", "body", "payload", "kwargs", "input")
RESPONSE_KEYS = ("response", "response_body", "resp", "completion", "output", "result")
CONVERSATION_KEYS = ("conversation_id", "session_id", "thread_id", "chat_id", "conversation")
TIME_KEYS = ("timestamp", "time", "created_at", "start_time", "startTime", "created", "ts")
ENVELOPE_KEYS = ("body", "data", "json", "kwargs", "params")
FAILED = 400

_REQUEST_FIELDS = {"messages", "prompt", "input", "contents"}


def is_failed_request(record: Mapping[str, Any]) -> bool:
    """Whether the log says that the request was refused or broke off."""
    response = from_json_text(_first(record, RESPONSE_KEYS))
    response = response if isinstance(response, Mapping) else {}
    statuses = [
        from_[key]
        for from_ in (record, response)
        for key in ("status_code", "status")
        if key in from_
    ]
    is_refused = any(
        isinstance(status, int) and not isinstance(status, bool) and status >= FAILED
        for status in statuses
    )
    return is_refused or bool(record.get("error")) or bool(response.get("error"))


def calls_of_record(record: Mapping[str, Any], place: str) -> Iterator[LoggedCall]:
    """The calls of one object of the log; none if it is no request."""
    request = _request(record)
    if request is None:
        return
    messages = request_messages(request)
    if not messages:
        return
    response, finish_reason = response_message(_response(record))
    about: dict[str, Any] = {
        "conversation_id": _conversation(record, request),
        "model": str(request.get("model") or record.get("model") or ""),
        "time": str(_first(record, TIME_KEYS) or ""),
        "tools": tool_definitions(request.get("tools") or request.get("functions")),
        "place": place,
    }
    if response is not None or messages[-1]["role"] != "assistant":
        yield LoggedCall(messages=messages, response=response, finish_reason=finish_reason, **about)
        return
    # A transcript: each answer that ends a turn is one call.
    for index, message in enumerate(messages):
        if message["role"] == "assistant" and index and not message.get("tool_calls"):
            yield LoggedCall(messages=messages[:index], response=message, **about)


def request_messages(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages of a request's body, with its system text in front."""
    fields = ("messages", "contents", "input", "prompt")
    messages = chat_messages(next((request[key] for key in fields if request.get(key)), []))
    keys = ("system", "instructions", "systemInstruction", "system_instruction")
    system = from_json_text(_first(request, keys))
    text = "\n".join(text_of(message) for message in chat_messages(system or []))
    if text and (not messages or messages[0]["role"] != "system"):
        messages.insert(0, {"role": "system", "content": text})
    return messages


def response_message(response: Any) -> tuple[dict[str, Any] | None, str]:
    """The assistant's message in a response's body, and why it ended; None: there is none."""
    response = _joined_stream(from_json_text(response))
    if isinstance(response, str):
        return ({"role": "assistant", "content": response} if response else None), ""
    if not isinstance(response, Mapping):
        return None, ""
    for key in ("choices", "candidates"):
        if isinstance(choices := response.get(key), list) and choices:
            choice = choices[0] if isinstance(choices[0], Mapping) else {}
            message = choice.get("message") or choice.get("content") or choice.get("text")
            ended = choice.get("finish_reason") or choice.get("finishReason") or ""
            return _assistant(message), str(ended).lower()
    ended = str(response.get("stop_reason") or response.get("finish_reason") or "")
    if isinstance(output := from_json_text(response.get("output")), list):
        items = chat_messages(output)
        status = "incomplete" if response.get("status") == "incomplete" else ""
        said = [message for message in items if message["role"] == "assistant"]
        if any(message.get("tool_calls") for message in said):
            said = [message for message in said if message.get("tool_calls")]
        return (said[-1] if said else None), status
    if "message" in response and isinstance(response["message"], Mapping):
        return _assistant(response["message"]), ended
    if "content" in response or "tool_calls" in response:
        return _assistant(response), ended
    return None, ended


def _assistant(message: Any) -> dict[str, Any] | None:
    if isinstance(message, str):
        return {"role": "assistant", "content": message}
    if not isinstance(message, Mapping):
        return None
    found = chat_messages({**message, "role": "assistant"})
    return next((item for item in found if item["role"] == "assistant"), None)


def _request(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The body of the request: under one of the usual names, or the object itself."""
    for key in REQUEST_KEYS:
        value = from_json_text(record.get(key))
        for inner in (value, *(_first_json(value, ENVELOPE_KEYS))):
            if isinstance(inner, Mapping) and inner.keys() & _REQUEST_FIELDS:
                return inner
    return record if record.keys() & _REQUEST_FIELDS else None


def _response(record: Mapping[str, Any]) -> Any:
    response = from_json_text(_first(record, RESPONSE_KEYS))
    for inner in _first_json(response, ENVELOPE_KEYS):
        if isinstance(inner, Mapping | list):
            return inner
    if response is None and record.keys() & {"choices", "candidates"}:
        return record
    return response


def _conversation(record: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    for holder in (record, record.get("metadata"), request, request.get("metadata")):
        holder = from_json_text(holder)
        found = _first(holder, CONVERSATION_KEYS) if isinstance(holder, Mapping) else None
        if isinstance(found, Mapping):
            found = found.get("id")
        if isinstance(found, str | int):
            return str(found)
    return ""


def _joined_stream(response: Any) -> Any:
    """A response that was streamed, from its events, as one text or as a list of objects."""
    if isinstance(response, str) and response.lstrip().startswith(("data:", "event:")):
        lines = (
            line.removeprefix("data:").strip()
            for line in response.split("\n")  # JSON may contain what `splitlines` takes for an end
            if line.startswith("data:")
        )
        response = [found for line in lines if isinstance(found := from_json_text(line), Mapping)]
    if not isinstance(response, list):
        return response
    stream = _Stream()
    for event in response:
        if not isinstance(event, Mapping):
            continue
        if isinstance(event.get("response"), Mapping) and event.get("type") in (
            "response.completed",
            "response.incomplete",
        ):
            return event["response"]
        stream.add(event)
    return stream.response()


class _Stream:
    """Joins the events of a streamed response. Logs are of any quality: what is odd is left out."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._calls: dict[str, dict[str, str]] = {}
        self._ended = ""

    def add(self, event: Mapping[str, Any]) -> None:
        """Add an event of OpenAI's or Anthropic's stream."""
        block = _mapping(event.get("content_block"))
        if block.get("type") == "tool_use":
            self._calls[str(event.get("index"))] = {"name": str(block.get("name")), "arguments": ""}
        choices = event.get("choices")
        choice = _mapping(choices[0]) if isinstance(choices, list) and choices else event
        delta = _mapping(choice.get("delta"))
        self._ended = str(choice.get("finish_reason") or delta.get("stop_reason") or self._ended)
        text = delta.get("content") or delta.get("text")
        if isinstance(text, str):
            self._texts.append(text)
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            self._add_call(_mapping(call))
        if "partial_json" in delta and (known := self._calls.get(str(event.get("index")))):
            known["arguments"] += str(delta["partial_json"])

    def _add_call(self, call: Mapping[str, Any]) -> None:
        known = self._calls.setdefault(str(call.get("index")), {"name": "", "arguments": ""})
        for name, part in _mapping(call.get("function")).items():
            known[name] = known.get(name, "") + str(part or "")

    def response(self) -> dict[str, Any]:
        """The whole response, in the shape of chat completions."""
        calls = [{"function": call} for call in self._calls.values()]
        message = {"content": "".join(self._texts), "tool_calls": calls}
        return {"choices": [{"message": message, "finish_reason": self._ended}]}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _first(holder: Any, keys: tuple[str, ...]) -> Any:
    if not isinstance(holder, Mapping):
        return None
    return next((holder[key] for key in keys if holder.get(key) is not None), None)


def _first_json(value: Any, keys: tuple[str, ...]) -> list[Any]:
    """The first of the keys that holds something, as a list of at most one."""
    found = from_json_text(_first(value, keys))
    return [] if found is None else [found]
