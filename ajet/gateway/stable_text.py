"""Which part of a completion's text can no longer change while the completion is sampled."""

from __future__ import annotations

from typing import Any

from ajet.context_tracker.chat_format import ChatFormat
from ajet.gateway.completion import PendingCompletion, before_stop, parse_turn
from ajet.gateway.response_format import FENCE

_LONGEST_MARK = 32
"""Characters of the longest mark that a chat format writes as plain text."""
_REASONING_HEADER = "thought\n"
"""Plain text with which one chat format opens its reasoning, and which is no part of it."""


class StableText:
    """Emits a completion's text piece by piece, and never text that its end could take back.

    The completion is parsed again, by ids, each time that it has grown by an eighth, so that the
    total cost stays linear in its length. Text is held back while it could still become something
    else: a character that is cut in two, white space (an answer never ends with it), the
    beginning of a stop string or of a mark like `</think>`, an object in braces (some formats
    write a tool call like that), and with `is_json` a code fence, which is taken from around JSON.
    From the first tool call on, everything waits for the end.
    """

    def __init__(
        self, chat_format: ChatFormat, pending: PendingCompletion, is_json: bool = False
    ) -> None:
        self.reasoning = ""
        """The reasoning emitted so far."""
        self.content = pending.prefill
        """The content emitted so far; the agent knows the prefill already."""
        self._chat_format = chat_format
        self._prompt = pending.prompt
        self._prefill = pending.prefill
        self._stop = pending.params.stop
        self._is_json = is_json
        self._next_length = 1
        self._waits_for_end = not chat_format.has_stable_text

    def advance(self, sampled: list[int]) -> tuple[str, str]:
        """The reasoning and content that became stable with the tokens sampled so far.

        Another thread may append to `sampled` meanwhile.
        """
        if self._waits_for_end or len(sampled) < self._next_length:
            return "", ""
        sampled = sampled.copy()
        self._next_length = len(sampled) + max(1, len(sampled) // 8)
        parsed = parse_turn(self._chat_format, self._prompt, sampled)
        if parsed.tool_calls or parsed.malformed_tool_calls:
            self._waits_for_end = True
            return "", ""
        content = self._stable(before_stop(parsed.content, self._stop, self._prefill))
        reasoning = before_stop(parsed.reasoning or "", self._stop)
        # With the first content the reasoning is complete: nothing of it needs to be held back.
        is_complete = bool(content) and self.content == self._prefill
        return self._emit(reasoning.strip() if is_complete else self._stable(reasoning), content)

    def finish(self, message: dict[str, Any]) -> tuple[str, str]:
        """The rest of the finished message.

        The parser may read a malformed turn differently from its prefix. What was already
        streamed wins: the final message is changed to match.
        """
        for field, emitted in (("reasoning_content", self.reasoning), ("content", self.content)):
            if not (message.get(field) or "").startswith(emitted):
                message[field] = emitted
        return self._emit(message.get("reasoning_content") or "", message["content"] or "")

    def _emit(self, reasoning: str, content: str) -> tuple[str, str]:
        if not (reasoning.startswith(self.reasoning) and content.startswith(self.content)):
            return "", ""  # less is stable than a moment ago, for example before a cut character
        new = reasoning[len(self.reasoning) :], content[len(self.content) :]
        self.reasoning, self.content = reasoning, content
        return new

    def _stable(self, text: str) -> str:
        text = text.lstrip()
        if text.startswith("{") or _REASONING_HEADER.startswith(text):
            return ""
        if self._is_json and (text.startswith(FENCE) or FENCE.startswith(text)):
            return ""
        mark = max(text.rfind("<"), text.rfind("["))
        if mark >= 0 and len(text) - mark < _LONGEST_MARK:
            text = text[:mark]
        for string in self._stop:
            text = _without_beginning_of(string, text)
        return text.rstrip("\ufffd").rstrip()


def _without_beginning_of(string: str, text: str) -> str:
    """The text without its longest suffix that is a prefix of `string`."""
    longest = min(len(string) - 1, len(text))
    length = next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)
    return text[: len(text) - length]
