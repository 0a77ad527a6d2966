"""Calls as a log has them, and the tasks that they become.

A task is the last user message of a call, with the messages before it. All calls of an agent's loop
on that message are one task; its answer is the last response that calls no tool.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ajet.schema.task import Task
from ajet.tracing.chat_messages import HAS_MEDIA, text_of

UNFINISHED = ("length", "max_tokens", "max_output_tokens", "content_filter", "error", "incomplete")
"""Reasons to end an answer that is no complete one."""

NO_QUERY = "no user message"
NO_ANSWER = "no final answer"
MEDIA = "images or other media"


@dataclass(slots=True, kw_only=True)
class LoggedCall:
    """One request to a model or agent, and its answer."""

    messages: list[dict[str, Any]]
    """The request, in the shape of chat completions."""
    response: dict[str, Any] | None = None
    """The answer, in the same shape; None: the log has none."""
    conversation_id: str = ""
    """What the log names the conversation; empty: nothing."""
    finish_reason: str = ""
    model: str = ""
    time: str = ""
    tools: list[dict[str, Any]] = field(default_factory=list)
    place: str = ""
    """File and line, for messages."""

    @property
    def query_index(self) -> int | None:
        """Position of the last user message; None: there is none."""
        users = [i for i, message in enumerate(self.messages) if message["role"] == "user"]
        return users[-1] if users else None

    @property
    def answer(self) -> str | None:
        """The text of the response; None if it calls a tool, is cut off or is empty."""
        response = self.response
        if response is None or response.get("tool_calls") or self.finish_reason in UNFINISHED:
            return None
        return text_of(response).strip() or None


@dataclass(slots=True, kw_only=True)
class TracedTask:
    """A task from a log, and what it needs besides the task to be told from others."""

    task: Task
    key: str
    """Equal for equal queries after equal messages of the user."""


@dataclass(slots=True, kw_only=True)
class _Draft:
    call: LoggedCall
    query_index: int
    answer: str | None


class Conversations:
    """Collects calls and makes one task of each user message.

    Args:
        needs_answer: leave out what has no final answer.
    """

    def __init__(self, *, needs_answer: bool) -> None:
        self._needs_answer = needs_answer
        self._drafts: dict[tuple[str, str], _Draft] = {}
        self.left_out: Counter[str] = Counter()
        """Reason -> number of calls or tasks that it left out."""

    def add(self, call: LoggedCall) -> None:
        """Add a call; later ones of the same agent's loop complete the earlier ones."""
        index = call.query_index
        if index is None or not text_of(call.messages[index]).strip():
            has_media = index is not None and HAS_MEDIA in call.messages[index]
            self.left_out[MEDIA if has_media else NO_QUERY] += 1
            return
        if any(HAS_MEDIA in message for message in call.messages[: index + 1]):
            self.left_out[MEDIA] += 1
            return
        # Tool results after the query make no difference: they are the agent's own work.
        key = (call.conversation_id, query_key(call.messages[: index + 1]))
        draft = self._drafts.get(key)
        if draft is None:
            self._drafts[key] = _Draft(call=call, query_index=index, answer=call.answer)
        elif call.answer is not None:
            draft.answer = call.answer

    def tasks(self) -> Iterator[TracedTask]:
        """The tasks, in the order in which their first calls were added; they have no ids yet."""
        for (conversation_id, key), draft in self._drafts.items():
            if draft.answer is None and self._needs_answer:
                self.left_out[NO_ANSWER] += 1
                continue
            call, index = draft.call, draft.query_index
            query = text_of(call.messages[index])
            opening = call.messages[: index + 1]
            metadata: dict[str, Any] = {} if draft.answer is None else {"answer": draft.answer}
            metadata["conversation"] = digest(conversation_id or _root(opening))
            about = {"model": call.model, "time": call.time, "source": call.place}
            metadata |= {name: value for name, value in about.items() if value}
            if call.tools:
                metadata["tools"] = call.tools
            task = Task(
                main_query=query,
                init_messages=opening if len(opening) > 1 else [],
                metadata=metadata,
            )
            yield TracedTask(task=task, key=key)


def query_key(messages: list[dict[str, Any]]) -> str:
    """What tells one user message in its conversation from another.

    System messages and answers make no difference, nor do case and white space: a log of an agent
    and a log of its model have different ones for the same user message.
    """
    said = [text_of(message) for message in messages if message["role"] == "user"]
    return json.dumps([" ".join(text.casefold().split()) for text in said])


def key_of_task(task: Task) -> str:
    """The same key, of a task that an earlier import wrote."""
    query = {"role": "user", "content": task.main_query}
    messages = task.init_messages or [query]
    return query_key([message for message in messages if "role" in message])


def _root(messages: list[dict[str, Any]]) -> str:
    """How a conversation without a name begins: system messages may differ from call to call."""
    return query_key(messages[: 1 + next(i for i, m in enumerate(messages) if m["role"] == "user")])


def digest(text: str) -> str:
    """A short name for a text that must not be shown, such as a session's id."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
