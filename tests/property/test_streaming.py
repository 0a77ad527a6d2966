"""A streamed answer says the same as the whole answer, whatever was sampled.

1. At every length of a completion, the text emitted so far is the beginning of its message, and
   with the rest it is the message: for well-formed turns of each chat format, and for turns that
   are malformed, cut, or noise.
2. Therefore no character is split, and no part of a stop string is emitted.
3. An episode that streams is recorded like one that does not.
4. The cost is linear: the lengths at which a completion is parsed add up to a small multiple of its
   own length.

Two things happen in malformed turns only, and then the final message is changed to match what was
streamed: llama-3 drops what stands before a role's header; gemma-4 reads a thought after other text
differently while it is open and when it is closed.
"""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ajet.context_tracker.chat_format import ChatFormat, load_chat_format
from ajet.context_tracker.tracker import Prompt
from ajet.gateway import stable_text, stream
from ajet.gateway.apis.chat_completions.api import completion_body
from ajet.gateway.completion import Choice, Completion, PendingCompletion, make_choice
from ajet.gateway.gateway import AgentSession
from ajet.gateway.request import parse_chat_request
from ajet.gateway.stable_text import StableText
from ajet.schema.episode import Generation, SamplingParams, finish_reason
from tests.property.random_agents import FORMATS, TOOL, programs, run_program
from tests.property.toy_tokenizer import ToyTokenizer

TOKENIZER = ToyTokenizer()
FORMS = {
    **{f"{name} {options}": (name, options) for name, options in FORMATS},
    **{name: (name, {}) for name in ("deepseek-v4", "gemma4", "inkling", "laguna-xs.2")},
}
NEVER = {"llama-3 {}": "<|end_header_id|>"}
WELL_FORMED_ONLY = ["gemma4"]
PIECES = [
    "hello ",
    "a < b and ",
    "π é 😀",
    "x [1] ",
    "\n\n",
    "  ",
    "{",
    "}",
    '{"name": "look", "parameters": {}}',
    "</think>",
    "<think>",
    "STOP",
    "ST",
    "thought\n",
]
STOPS = [(), ("STOP",), ("\n\n", "STOP")]
seeds = st.integers(0, 1 << 30)
_formats: dict[str, ChatFormat] = {}


def chat_format(name: str) -> ChatFormat:
    if name not in _formats:
        renderer, options = FORMS[name]
        _formats[name] = load_chat_format(TOKENIZER, renderer, options)  # type: ignore[arg-type]
    return _formats[name]


def completion_of(name: str, rng: random.Random, tools: Any) -> list[int]:
    """A turn, a broken turn or noise; never empty."""
    ids = _turn(chat_format(name), rng, tools) if rng.random() < 0.8 else []
    if name not in WELL_FORMED_ONLY and (not ids or rng.random() < 0.4):
        never = TOKENIZER.special.get(NEVER.get(name, ""))
        for _ in range(rng.randint(1, 6)):
            special = rng.randrange(256, len(TOKENIZER))
            token = rng.randrange(256) if special == never or rng.random() < 0.5 else special
            ids.insert(rng.randint(0, len(ids)), token)
    ids = ids or TOKENIZER.encode("nothing")
    return ids[: rng.randint(1, len(ids))] if rng.random() < 0.3 else ids


def _turn(form: ChatFormat, rng: random.Random, tools: Any) -> list[int]:
    """The ids of an assistant's turn as the format itself writes it."""
    message: dict[str, Any] = {"role": "assistant", "content": _text(rng)}
    if rng.random() < 0.6:
        message["reasoning_content"] = _text(rng)
    most = 1 if form is _formats.get("llama-3 {}") else 2
    message["tool_calls"] = [
        {
            "id": f"functions.look:{i}",
            "type": "function",
            "function": {"name": rng.choice(["look", "other"]), "arguments": {"what": _text(rng)}},
        }
        for i in range(rng.randint(0, most))
    ]
    head = form.render([{"role": "user", "content": "q"}], tools)
    whole = form.render([{"role": "user", "content": "q"}, message], tools)
    pairs = enumerate(zip(head, whole, strict=False))
    start = next((i for i, (ours, theirs) in pairs if ours != theirs), len(head))
    ends = [i for i in range(start, len(whole)) if whole[i] in form.stop_token_ids]
    return whole[start : ends[0] + 1 if ends else None]


def _text(rng: random.Random) -> str:
    return "".join(rng.choice(PIECES) for _ in range(rng.randint(0, 4)))


def cut(ids: list[int], params: SamplingParams) -> Generation:
    """The completion as an engine would have ended it."""
    length, reason = next(
        (n, reason)
        for n in range(1, len(ids) + 1)
        if (reason := finish_reason(ids[:n], params, len(ids), TOKENIZER.decode)) is not None
    )
    return Generation(token_ids=ids[:length], logprobs=[-1.0] * length, finish_reason=reason)


def pending_of(form: ChatFormat, tools: Any, stop: tuple[str, ...] = ()) -> PendingCompletion:
    prompt = Prompt(
        arrival=0,
        agent_name="a",
        ids=form.render([{"role": "user", "content": "q"}], tools),
        parent=None,
        new_timeline="first_call",
        messages=[],
        num_covered=0,
        tools=tools,
    )
    params = SamplingParams(max_tokens=10**6, stop=stop, stop_token_ids=form.stop_token_ids)
    return PendingCompletion(
        prompt=prompt, params=params, name="x", prefill="", max_calls=None, with_logprobs=False
    )


class Reader:
    """Adds up the emitted text."""

    def __init__(self) -> None:
        self.reasoning = ""
        self.content = ""

    def read(self, news: tuple[str, str]) -> None:
        self.reasoning += news[0]
        self.content += news[1]


@given(st.sampled_from(sorted(FORMS)), seeds)
@settings(max_examples=600, deadline=None)
def test_1_emitted_text_is_the_beginning_of_the_message(name, seed):
    rng = random.Random(seed)
    form, tools, stop = chat_format(name), rng.choice([None, [TOOL]]), rng.choice(STOPS)
    pending = pending_of(form, tools, stop)
    generation = cut(completion_of(name, rng, tools), pending.params)
    choice = make_choice(form, pending, generation)
    message = copy.deepcopy(choice.message)
    text, reader = StableText(form, pending), Reader()
    for length in range(1, len(generation.token_ids) + 1):
        reader.read(text.advance(generation.token_ids[:length]))
        assert message.get("reasoning_content", "").startswith(reader.reasoning)
        assert (message["content"] or "").startswith(reader.content)
        assert not any(string in reader.content or string in reader.reasoning for string in stop)
    reader.read(text.finish(choice.message))
    assert choice.message == message
    assert reader.content == (message["content"] or "")
    assert reader.reasoning == message.get("reasoning_content", "")


def test_1_text_is_emitted_before_the_end():
    """The check above would also pass if nothing were emitted."""
    form = chat_format(sorted(FORMS)[0])
    for name in FORMS:
        form = chat_format(name)
        pending, ids = pending_of(form, None), TOKENIZER.encode("a plain answer of some words")
        if FORMS[name][0] == "inkling":
            continue
        text = StableText(form, pending)
        assert any(text.advance(ids[:length]) != ("", "") for length in range(1, len(ids))), name


def test_1_the_check_can_fail(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stable_text, "_LONGEST_MARK", 0)
    form = chat_format("deepseek-v4")
    pending, ids = pending_of(form, None), TOKENIZER.encode("a <｜DSML｜tool_calls>")
    text = StableText(form, pending)
    message = make_choice(form, pending, cut(ids, pending.params)).message
    for length in range(1, len(ids) + 1):
        text.advance(ids[:length])
    before = dict(message)
    text.finish(message)
    assert message != before


async def ask_in_a_stream(session: AgentSession, body: dict[str, Any]) -> list[dict[str, Any]]:
    emitted: dict[int, Reader] = {}
    answer: Completion | None = None
    async for item in session.stream(session.prepare(parse_chat_request(body))):
        if isinstance(item, Completion):
            answer = item
        else:
            emitted.setdefault(item.index, Reader()).read((item.reasoning, item.content))
    assert answer is not None, "the answer comes last"
    for index, choice in enumerate(answer.choices):
        reader = emitted.get(index, Reader())
        assert (reader.content, reader.reasoning) == (choice.content, choice.reasoning)
    return [choice["message"] for choice in completion_body(answer)["choices"]]


streamable = [index for index, (name, _) in enumerate(FORMATS) if name != "llama-3"]


@given(programs, st.sampled_from(streamable), seeds)
@example([(0, "new", 0), (0, "many", 1)], 1, 5)
@settings(max_examples=60, deadline=None)
def test_3_an_episode_that_streams_is_recorded_like_one_that_does_not(program, form, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "MIN_PAUSE_S", 0.0)
        streamed, _ = run_program(program, form, seed, ask=ask_in_a_stream)
    plain, _ = run_program(program, form, seed)

    def record(tracker: Any) -> list[Any]:
        return sorted(
            (call.call_id, str(call.response), call.completion_ids.tolist(), call.finish_reason)
            for call in tracker.calls
        )

    def prompts(tracker: Any) -> list[Any]:
        return sorted((call.call_id, call.delta_ids.tolist()) for call in tracker.calls)

    assert prompts(streamed) == prompts(plain)
    assert record(streamed) == record(plain)


def test_4_the_lengths_parsed_add_up_to_a_few_times_the_completions_own():
    form = chat_format("llama-3 {}")
    lengths: list[int] = []

    class Counting:
        tokenizer, has_stable_text = form.tokenizer, True

        def parse(self, ids: list[int], *rest: Any) -> Any:
            lengths.append(len(ids))
            return form.parse(ids, *rest)

    ids = TOKENIZER.encode("some words " * 400)
    text = StableText(Counting(), pending_of(form, None))  # type: ignore[arg-type]
    for length in range(1, len(ids) + 1):
        text.advance(ids[:length])
    assert sum(lengths) <= 10 * len(ids)
    assert lengths[:16] == list(range(1, 17)), "the first ones at once"
    assert len(lengths) > 40


def test_a_choice_without_text_has_no_content():
    choice = Choice(
        message={"role": "assistant", "content": None},
        prefill="",
        finish_reason="stop",
        stop=None,
        num_tokens=1,
        logprobs=None,
    )
    assert (choice.content, choice.reasoning, choice.tool_calls) == ("", "", [])
