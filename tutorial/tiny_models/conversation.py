"""Demonstrations: conversations in OpenAI's format, and their tokens with a loss mask."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerFast

from tutorial.tiny_models.tokenizer import ASSISTANT_OPENING, EOS, Messages, make_renderer


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What an agent sends and a teacher answers; the last message is the teacher's."""

    messages: Messages
    tools: list[dict[str, Any]] = field(default_factory=list)
    """JSON schemas, as the agent sends them."""
    ignored: frozenset[int] = frozenset()
    """Answers without loss, counted from 0: moves that only lead to a state worth showing."""


Demonstrate = Callable[[int], Iterable[Conversation]]
"""Makes a number of conversations, the same ones each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A conversation as tokens."""

    token_ids: list[int]
    """[L]"""
    sampled: list[bool]
    """[L]; True for tokens that the policy would have sampled: its text and its `<|im_end|>`."""
    trained: list[bool]
    """[L]; the sampled tokens without those of ignored answers."""


def tokenize(
    tokenizer: PreTrainedTokenizerFast, conversations: Iterable[Conversation]
) -> list[Demonstration]:
    """Render conversations as the gateway does, each up to its last `<|im_end|>`."""
    renderer = make_renderer(tokenizer)
    opening = tokenizer.encode(ASSISTANT_OPENING, add_special_tokens=False)
    end = tokenizer.convert_tokens_to_ids(EOS)

    def tokenize_one(conversation: Conversation) -> Demonstration:
        ids = renderer.render_ids(conversation.messages, tools=conversation.tools or None)
        ids = ids[: len(ids) - ids[::-1].index(end)]
        answers = _answers(ids, opening, end)
        return Demonstration(
            token_ids=ids,
            sampled=[answer is not None for answer in answers],
            trained=[a is not None and a not in conversation.ignored for a in answers],
        )

    return [tokenize_one(conversation) for conversation in conversations]


def _answers(ids: list[int], opening: list[int], end: int) -> list[int | None]:
    """[L] the number of the answer that a token belongs to; None for the context."""
    answers: list[int | None] = []
    count, inside = 0, False
    for i, token in enumerate(ids):
        answers.append(count if inside else None)
        if inside and token == end:
            count, inside = count + 1, False
        elif not inside:
            inside = ids[i + 1 - len(opening) : i + 1] == opening
    return answers
