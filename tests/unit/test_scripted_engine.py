"""The scripted engine.

1. Each session gets the script from its beginning, in order; asking for more is an error.
2. What ends a completion ends a scripted one: its length, the context, stop tokens, stop strings.
3. Every answered request is recorded, whole; a cancelled or failed one is not, and costs nothing.
"""

from __future__ import annotations

import asyncio

import pytest

from ajet.engine.base import Engine
from ajet.engine.scripted import ScriptedEngine
from ajet.errors import ContextLengthError, EngineError
from ajet.schema.episode import Generation, SamplingParams

MANY = SamplingParams(max_tokens=100)


class Letters:
    """One token a character."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [ord(character) for character in text]

    def decode(self, token_ids: list[int]) -> str:
        return "".join(map(chr, token_ids))


def ask(
    engine: Engine, params: SamplingParams = MANY, session: str = "a", prompt: int = 3
) -> Generation:
    return asyncio.run(engine.generate([1] * prompt, params, session=session))


def test_each_session_replays_the_script_from_its_beginning() -> None:
    engine = ScriptedEngine([[5, 6], [7]])
    answers = [ask(engine, session=session).token_ids for session in ("a", "b", "a", "b")]
    assert answers == [[5, 6], [5, 6], [7], [7]]
    with pytest.raises(EngineError, match=r"2 completions, but session 'a' requests one more"):
        ask(engine)


def test_texts_are_encoded_and_ended_by_the_stop_token() -> None:
    engine = ScriptedEngine.from_texts(Letters(), ["ab", ""], stop_id=0)
    assert [ask(engine).token_ids for _ in range(2)] == [[97, 98, 0], [0]]


def test_a_function_answers_from_prompt_parameters_and_session() -> None:
    engine = ScriptedEngine(lambda prompt, params, session: [len(prompt), params.max_tokens])
    assert ask(engine, prompt=4).token_ids == [4, 100]


def test_made_up_logprobs_are_valid_and_always_the_same() -> None:
    first, second = (ask(ScriptedEngine([[5, 6, 600]], policy_version=3)) for _ in range(2))
    assert first == second
    assert all(logprob < 0 for logprob in first.logprobs)
    assert first.policy_versions == [3, 3, 3]


def test_a_whole_generation_is_passed_on_as_it_is() -> None:
    given = Generation(
        token_ids=[1, 2], logprobs=[-0.5, 0.0], policy_versions=[4, 5], finish_reason="length"
    )
    assert ask(ScriptedEngine(lambda *_: given)) == given


@pytest.mark.parametrize(
    ("params", "prompt", "ids", "reason"),
    [
        (SamplingParams(max_tokens=100), 3, [97, 98, 99, 0], "stop"),
        (SamplingParams(max_tokens=3), 3, [97, 98, 99], "length"),
        (SamplingParams(max_tokens=4, stop_token_ids=(0,)), 3, [97, 98, 99, 0], "stop"),
        (SamplingParams(max_tokens=100), 8, [97, 98], "length"),
        (SamplingParams(max_tokens=100, stop_token_ids=(98,)), 3, [97, 98], "stop"),
        (SamplingParams(max_tokens=100, stop=("x", "bc")), 3, [97, 98, 99], "stop"),
    ],
)
def test_a_completion_ends_where_an_engine_would_end_it(
    params: SamplingParams, prompt: int, ids: list[int], reason: str
) -> None:
    engine = ScriptedEngine.from_texts(Letters(), ["abc"], stop_id=0, max_model_len=10)
    answer = ask(engine, params, prompt=prompt)
    assert (answer.token_ids, answer.finish_reason) == (ids, reason)
    assert len(answer.logprobs) == len(answer.policy_versions) == len(ids)


def test_tokens_are_reported_in_order() -> None:
    told: list[tuple[int, float]] = []
    engine = ScriptedEngine([[5, 6, 7]])
    answer = asyncio.run(
        engine.generate(
            [1], SamplingParams(max_tokens=2), session="a", on_token=lambda *t: told.append(t)
        )
    )
    assert told == list(zip(answer.token_ids, answer.logprobs, strict=True))
    assert len(told) == 2


def test_a_prompt_without_room_for_a_token_is_refused() -> None:
    engine = ScriptedEngine([[5]], max_model_len=10)
    assert ask(engine, prompt=9).token_ids == [5]
    with pytest.raises(ContextLengthError, match="maximum context length is 10 tokens.* has 10"):
        ask(engine, prompt=10)


def test_stop_strings_without_a_tokenizer_are_refused() -> None:
    with pytest.raises(EngineError, match="needs a tokenizer"):
        ask(ScriptedEngine([[5]]), SamplingParams(max_tokens=5, stop=("x",)))


def test_answered_requests_are_recorded() -> None:
    engine = ScriptedEngine([[5, 6], [7]])
    answer = ask(engine, session="s", prompt=2)
    (request,) = engine.requests
    assert request.prompt_ids == [1, 1]
    assert (request.params, request.session, request.generation) == (MANY, "s", answer)


def test_a_fault_of_the_script_reaches_the_caller_and_is_not_recorded() -> None:
    def script(*_: object) -> list[int]:
        raise EngineError("out of memory")

    engine = ScriptedEngine(script)
    with pytest.raises(EngineError, match="out of memory"):
        ask(engine)
    assert engine.requests == []


def test_a_cancelled_request_is_not_recorded_and_uses_up_nothing() -> None:
    engine = ScriptedEngine([[5]], delay_s=0.02)

    async def cancel_then_ask() -> Generation:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.generate([1], MANY, session="a"), 0.001)
        return await engine.generate([1], MANY, session="a")

    assert asyncio.run(cancel_then_ask()).token_ids == [5]
    assert len(engine.requests) == 1


def test_sessions_are_noted() -> None:
    engine = ScriptedEngine([])
    engine.open_session("a")
    engine.open_session("b")
    engine.close_session("a")
    engine.close_session("never opened")
    assert engine.open_sessions == {"b"}


def test_a_closed_engine_says_so() -> None:
    engine = ScriptedEngine([[5]])
    asyncio.run(engine.aclose())
    with pytest.raises(EngineError, match="closed"):
        ask(engine)
