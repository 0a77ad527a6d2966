"""Spans of OpenTelemetry with the GenAI conventions, current and former, as logged calls.

Where an agent's messages stand depends on the version of the conventions:

- attributes `gen_ai.input.messages`, `gen_ai.output.messages` and `gen_ai.system_instructions`, on
  the span or on an event `gen_ai.client.inference.operation.details`;
- one event or log record per message: `gen_ai.user.message`, `gen_ai.choice`, ...;
- events `gen_ai.content.prompt` and `gen_ai.content.completion`;
- numbered attributes: `gen_ai.prompt.0.content` (OpenLLMetry), `llm.input_messages.0.message.role`
  (OpenInference);
- `input` and `output` of AgentScope's first version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ajet.tracing.chat_messages import chat_messages, from_json_text, text_of, tool_definitions
from ajet.tracing.logged_calls import LoggedCall
from ajet.tracing.message_text import message_in_text

OTHER_OPERATIONS = ("embeddings", "execute_tool", "format", "retrieval", "rerank", "create_agent")
CONVERSATION_KEYS = (
    "gen_ai.conversation.id",
    "session.id",
    "langfuse.session.id",
    "traceloop.association.properties.session_id",
    "project.run_id",
)
RUN_KEYS = ("project.run_id", "agentscope.function.name")
"""Attributes of spans whose conversation is a whole run of AgentScope, with all of its queries."""
FUNCTION_INPUT = "agentscope.function.input"
DETAILS = "gen_ai.client.inference.operation.details"
MESSAGE_EVENT = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message")


@dataclass(slots=True, kw_only=True)
class SpanEvent:
    """An event of a span, or a log record that belongs to it."""

    name: str
    attributes: Mapping[str, Any]
    body: Any = None


@dataclass(slots=True, kw_only=True)
class Span:
    """One span, with its attributes as plain values under dotted names."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    attributes: dict[str, Any]
    events: list[SpanEvent] = field(default_factory=list)
    time: str = ""
    is_failed: bool = False
    place: str = ""


@dataclass(slots=True, kw_only=True)
class SpanCall:
    """The call that a span records."""

    span: Span
    call: LoggedCall

    @property
    def is_agent(self) -> bool:
        """Whether an agent was called, and not a model."""
        operation = self.span.attributes.get("gen_ai.operation.name")
        kind = self.span.attributes.get("openinference.span.kind")
        name = self.span.name
        return (
            operation == "invoke_agent"
            or kind == "AGENT"
            or name.startswith("invoke_agent")
            or name.endswith("Agent.reply")
        )


def calls_of_spans(spans: list[Span]) -> Iterator[LoggedCall]:
    """The calls that a user made, in order of time.

    Calls of models inside an agent's call are the agent's own. The outermost agent has the user's
    query and the final answer; the first call of its model has the messages before the query.
    """
    parents = {(span.trace_id, span.span_id): span.parent_id for span in spans}
    found = [call for span in spans if (call := _call_of(span)) is not None]
    agents = {
        (item.span.trace_id, item.span.span_id): item
        for item in found
        if item.is_agent and item.call.query_index is not None and item.call.response is not None
    }
    inner: dict[tuple[str, str], list[SpanCall]] = {key: [] for key in agents}
    for item in found:
        outermost = None
        for ancestor in _ancestors(item.span, parents):
            outermost = ancestor if ancestor in agents else outermost
        if outermost is not None:
            inner[outermost].append(item)
    inside = {id(item) for items in inner.values() for item in items}
    found.sort(key=lambda item: item.span.time)
    for item in found:
        if id(item) in inside:
            continue
        calls = sorted(
            inner.get((item.span.trace_id, item.span.span_id), ()), key=lambda call: call.span.time
        )
        is_run = any(key in item.span.attributes for key in RUN_KEYS)
        yield _with_history(item.call, [call.call for call in calls], is_run=is_run)


def is_failed_status(status: Any) -> bool:
    """Whether a span's status says that it failed."""
    if isinstance(status, Mapping):
        status = status.get("code", status.get("status_code"))
    return status == 2 or str(status).upper().rpartition("_")[2] in ("ERROR", "2")


def _ancestors(span: Span, parents: dict[tuple[str, str], str]) -> Iterator[tuple[str, str]]:
    seen = {span.span_id}
    at = span.parent_id
    while at and at not in seen:
        seen.add(at)
        yield (span.trace_id, at)
        at = parents.get((span.trace_id, at), "")


def _with_history(agent: LoggedCall, inner: list[LoggedCall], *, is_run: bool) -> LoggedCall:
    """The agent's call with the messages that its model got before the query."""
    index = agent.query_index
    if index is None:
        return agent
    query = text_of(agent.messages[index]).strip()
    for call in inner:
        at = call.query_index
        if at is None or text_of(call.messages[at]).strip() != query:
            continue
        if at > index:
            agent.messages = call.messages[: at + 1]
        agent.tools = agent.tools or call.tools
        agent.model = agent.model or call.model
        if is_run:  # what belongs together is known better: all that begins with the same message
            agent.conversation_id = ""
        break
    return agent


def _call_of(span: Span) -> SpanCall | None:
    """The call that a span records; None if it records none with messages."""
    attributes = dict(span.attributes)
    for event in span.events:
        if event.name == DETAILS:
            details = event.body if isinstance(event.body, Mapping) else {}
            attributes |= {**details, **event.attributes}
    if span.is_failed or attributes.get("gen_ai.operation.name") in OTHER_OPERATIONS:
        return None
    messages = _request(attributes, span.events)
    if not messages:
        return None
    instructions = chat_messages(attributes.get("gen_ai.system_instructions") or [])
    system = "\n".join(text_of(message) for message in instructions)
    if system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    answers, finish_reason = _response(attributes, span.events)
    responses = [message for message in answers if message["role"] == "assistant"]
    conversation = next((attributes[key] for key in CONVERSATION_KEYS if attributes.get(key)), "")
    models = ("gen_ai.request.model", "gen_ai.response.model", "llm.model_name")
    model = next((attributes[key] for key in models if attributes.get(key)), "")
    tools = attributes.get("gen_ai.tool.definitions") or attributes.get("gen_ai.request.tools")
    call = LoggedCall(
        messages=messages,
        response=responses[-1] if responses else None,
        conversation_id=str(conversation),
        finish_reason=finish_reason,
        model=str(model),
        time=span.time,
        tools=tool_definitions(tools),
        place=span.place,
    )
    return SpanCall(span=span, call=call)


def _request(attributes: Mapping[str, Any], events: list[SpanEvent]) -> list[dict[str, Any]]:
    if messages := chat_messages(attributes.get("gen_ai.input.messages") or []):
        return messages
    said = [
        {"role": match[1], **_event_message(event)}
        for event in events
        if (match := MESSAGE_EVENT.fullmatch(event.name))
    ]
    if messages := chat_messages(said):
        return messages
    for event in events:
        if event.name == "gen_ai.content.prompt":
            return chat_messages(event.attributes.get("gen_ai.prompt") or [])
    if messages := chat_messages(attributes.get("ai.prompt.messages") or []):  # Vercel's AI SDK
        return messages
    for prefix in ("gen_ai.prompt", "llm.prompts", "llm.input_messages"):
        if messages := chat_messages(numbered(attributes, prefix)):
            return messages
    if messages := chat_messages(attributes.get("gen_ai.prompt") or []):
        return messages
    return _function_input(attributes)


def _function_input(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Messages among the arguments of the function that AgentScope recorded."""
    recorded = from_json_text(attributes.get(FUNCTION_INPUT))
    recorded = recorded if isinstance(recorded, Mapping) else {}
    given = [attributes.get("input.args"), recorded.get("args")]
    for named in (attributes.get("input.kwargs"), recorded.get("kwargs")):
        named = from_json_text(named)
        if isinstance(named, Mapping):
            given += [named.get("msg"), named.get("messages")]
    return next((found for value in given if (found := chat_messages(_described(value)))), [])


def _response(
    attributes: Mapping[str, Any], events: list[SpanEvent]
) -> tuple[list[dict[str, Any]], str]:
    """The messages of the answer, and why it ended."""
    reasons = from_json_text(attributes.get("gen_ai.response.finish_reasons"))
    reason = str(reasons[0]) if isinstance(reasons, list) and reasons else ""
    given = from_json_text(attributes.get("gen_ai.output.messages"))
    if messages := chat_messages(given or []):
        last = given[-1] if isinstance(given, list) else given
        own = last.get("finish_reason") if isinstance(last, Mapping) else None
        return messages, str(own or reason)
    if (said := _answer_event(events, reason)) is not None:
        return said
    for prefix in ("gen_ai.completion", "llm.completions", "llm.output_messages"):
        if messages := chat_messages(numbered(attributes, prefix)):
            ended = attributes.get(f"{prefix}.0.finish_reason")
            return messages, str(ended or reason)
    for key in ("gen_ai.completion", "ai.response.text"):
        if messages := _as_answer(attributes.get(key)):
            return messages, reason
    return chat_messages(_described(attributes.get("output"))), reason


def _answer_event(events: list[SpanEvent], reason: str) -> tuple[list[dict[str, Any]], str] | None:
    """The answer in an event, and why it ended; None: no event has one."""
    for event in events:
        if event.name == "gen_ai.choice":
            choice = _event_message(event)
            message = from_json_text(choice.get("message")) or choice
            if not isinstance(message, Mapping):
                message = {"content": message}
            message = {"role": "assistant", **message}
            return chat_messages(message), str(choice.get("finish_reason") or reason)
        if event.name == "gen_ai.content.completion":
            return _as_answer(event.attributes.get("gen_ai.completion")), reason
    return None


def _as_answer(value: Any) -> list[dict[str, Any]]:
    """Text alone is what the assistant said."""
    value = from_json_text(value) or []
    return chat_messages(
        {"role": "assistant", "content": value} if isinstance(value, str) else value
    )


def _event_message(event: SpanEvent) -> dict[str, Any]:
    """The message of an event: its body, or its attributes."""
    body = from_json_text(event.body)
    if isinstance(body, Mapping):
        return dict(body)
    if isinstance(body, str) and body:
        return {"content": body}
    strip = "gen_ai.event."
    message = {key.removeprefix(strip): value for key, value in event.attributes.items()}
    if isinstance(content := from_json_text(message.get("content")), Mapping):
        message |= content
    return message


def _described(value: Any) -> list[Any]:
    """The messages in a value, also those that stand there as Python writes them."""
    value = from_json_text(value)
    if isinstance(value, list):
        return [message for item in value for message in _described(item)]
    if isinstance(value, str):
        message = message_in_text(value)
        return [] if message is None else [message]
    return [value] if isinstance(value, Mapping) and "role" in value else []


def numbered(attributes: Mapping[str, Any], prefix: str) -> list[Any]:
    """The list that attributes such as `PREFIX.0.role` describe."""
    tree: dict[str, Any] = {}
    for key, value in attributes.items():
        if not key.startswith(f"{prefix}."):
            continue
        *path, last = key.removeprefix(f"{prefix}.").split(".")
        node = tree
        for name in path:
            below = node.setdefault(name, {})
            if not isinstance(below, dict):
                break
            node = below
        else:
            node[last] = value
    found = _lists(tree)
    return found if isinstance(found, list) else []


def _lists(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    if tree and all(key.isdecimal() for key in tree):
        return [_lists(tree[key]) for key in sorted(tree, key=int)]
    return {key: _lists(item) for key, item in tree.items()}
