"""Which text of a completion is certain while the completion is still being sampled."""

from __future__ import annotations

from typing import Any

from ajet.context_tracker.chat_format import ChatFormat
from ajet.gateway.completion import before_stop, parse_turn
from ajet.gateway.pending import PendingCompletion

_LONGEST_MARK = 32
"""Characters of the longest mark that a chat format writes as plain text."""
_FIRST_LINE = "thought\n"
"""What a chat format opens its reasoning with as plain text, and that is no part of it."""


class StableText:
    """Tells a completion's text piece by piece, and never what its end may take back.

    The completion is parsed, by ids, each time that it has grown by an eighth, so that the cost
    stays linear in its length. Text is held back while it may still turn out to be something
    else: a character that is cut in two, white space (which an answer does not end with), the
    beginning of a stop string or of a mark like `</think>`, an object in braces (some formats
    write a tool call as that). From the first tool call on, the rest waits for the end.
    """

    def __init__(self, chat_format: ChatFormat, wanted: PendingCompletion) -> None:
        self.reasoning = ""
        """What was told of the reasoning."""
        self.content = wanted.prefill
        """What was told of the content."""
        self._chat_format = chat_format
        self._prompt = wanted.prompt
        self._prefill = wanted.prefill
        self._stop = wanted.params.stop
        self._next_length = 1
        self._waits_for_end = not chat_format.text_settles

    def advance(self, sampled: list[int]) -> tuple[str, str]:
        """Reasoning and content that became certain with the tokens sampled so far.

        `sampled` may grow meanwhile.
        """
        if self._waits_for_end or len(sampled) < self._next_length:
            return "", ""
        sampled = sampled.copy()
        self._next_length = len(sampled) + max(1, len(sampled) // 8)
        parsed = parse_turn(self._chat_format, self._prompt, sampled)
        if parsed.tool_calls or parsed.malformed_tool_calls:
            self._waits_for_end = True
            return "", ""
        content = self._settled(before_stop(parsed.content, self._stop, self._prefill))
        reasoning = before_stop(parsed.reasoning or "", self._stop)
        is_over = bool(content) and self.content == self._prefill  # the reasoning, just now
        return self._tell(reasoning.strip() if is_over else self._settled(reasoning), content)

    def finish(self, message: dict[str, Any]) -> tuple[str, str]:
        """The rest of the finished message.

        A format may read a broken turn otherwise than its beginning. The agent was told of the
        beginning, so the message is changed to say that.
        """
        for field, told in (("reasoning_content", self.reasoning), ("content", self.content)):
            if not (message.get(field) or "").startswith(told):
                message[field] = told
        return self._tell(message.get("reasoning_content") or "", message["content"] or "")

    def _tell(self, reasoning: str, content: str) -> tuple[str, str]:
        if not (reasoning.startswith(self.reasoning) and content.startswith(self.content)):
            return "", ""  # less is certain than was a moment ago, for example a cut character
        new = reasoning[len(self.reasoning) :], content[len(self.content) :]
        self.reasoning, self.content = reasoning, content
        return new

    def _settled(self, text: str) -> str:
        text = text.lstrip()
        if text.startswith("{") or _FIRST_LINE.startswith(text):
            return ""
        mark = max(text.rfind("<"), text.rfind("["))
        if mark >= 0 and len(text) - mark < _LONGEST_MARK:
            text = text[:mark]
        for string in self._stop:
            text = _without_beginning_of(string, text)
        return text.rstrip("\ufffd").rstrip()


def _without_beginning_of(string: str, text: str) -> str:
    """The text less its longest end that is a beginning of `string`."""
    longest = min(len(string) - 1, len(text))
    length = next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)
    return text[: len(text) - length]
