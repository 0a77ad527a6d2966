"""The embedded engine.

1. Each logprob is, to 1e-5 in float32, that of a plain forward of the stock model over the whole
   sequence: in ragged batches that requests join and leave, over the calls of a session, with
   rows evicted, grown, copied and chunked.
2. A completion is a function of prompt, seed, parameters and weights, not of who runs beside it.
3. It ends where the parameters, stop strings or the context end it.
4. A weight update forgets what is kept; a completion under way goes on under the new weights.
5. Cancelling frees the place. A failed or closed engine answers everyone with `EngineError`.
"""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from ajet.engine.embedded.engine import EmbeddedEngine
from ajet.engine.embedded.load import load_model
from ajet.errors import ContextLengthError, EngineError, ModelError, RequestError
from ajet.schema.episode import Generation, SamplingParams
from tests.torch.engine_fakes import own_logprobs, serving, with_engine
from tests.torch.small_model import VOCABULARY, small_model


@pytest.fixture(scope="module")
def shared_model() -> PreTrainedModel:
    return small_model()


@pytest.fixture
def model(shared_model: PreTrainedModel) -> PreTrainedModel:
    return copy.deepcopy(shared_model)


def prompt_of(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(1, VOCABULARY, length).tolist()


def params_of(max_tokens: int = 8, **options: Any) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, **options)


class Checked:
    """Asks the engine, and checks every answer against the stock model."""

    def __init__(self, engine: EmbeddedEngine, model: PreTrainedModel) -> None:
        self.engine = engine
        self.model = model

    async def ask(
        self, prompt: list[int], params: SamplingParams, session: str = "s"
    ) -> Generation:
        answer = await self.engine.generate(prompt, params, session=session)
        expected = own_logprobs(self.model, prompt, answer, params.temperature or 1.0)
        assert answer.logprobs == pytest.approx(expected, abs=1e-5)
        assert len(answer.policy_versions) == len(answer.token_ids)
        return answer

    async def episode(self, number: int, num_calls: int = 4) -> None:
        """A session whose calls continue each other, with sizes of its own."""
        rng = np.random.default_rng(number)
        ids = prompt_of(30) + prompt_of(int(rng.integers(1, 40)), seed=number)
        for _ in range(num_calls):
            params = params_of(int(rng.integers(1, 20)), temperature=float(rng.choice([0.7, 1.0])))
            answer = await self.ask(ids, params, session=f"e{number}")
            ids = ids + answer.token_ids + prompt_of(int(rng.integers(1, 30)), seed=number + 100)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"max_num_seqs": 16}, id="roomy"),
        pytest.param({"max_num_seqs": 16, "schedule": "lockstep"}, id="lockstep"),
        pytest.param({"max_num_seqs": 3}, id="rows are evicted"),
        pytest.param({"max_num_seqs": 1}, id="one row"),
        pytest.param({"prefill_chunk_tokens": 7}, id="prompts are chunked"),
    ],
)
@pytest.mark.parametrize("num_calls", [1, 4])
def test_logprobs_are_those_of_a_plain_forward(
    model: PreTrainedModel, options: dict[str, Any], num_calls: int
) -> None:
    async def use(engine: EmbeddedEngine) -> None:
        checked = Checked(engine, model)
        await asyncio.gather(*[checked.episode(number, num_calls) for number in range(9)])

    with_engine(model, use, **options)


def test_rows_grow_with_long_sequences(model: PreTrainedModel) -> None:
    async def use(engine: EmbeddedEngine) -> None:
        checked = Checked(engine, model)
        short = checked.ask(prompt_of(5), params_of(400), "a")
        long = checked.ask(prompt_of(700, seed=1), params_of(300), "b")
        await asyncio.gather(short, long)
        await checked.ask(prompt_of(1024, seed=2), params_of(3), "c")

    with_engine(model, use, max_model_len=2048)


def test_a_sessions_next_call_computes_only_what_is_new(model: PreTrainedModel) -> None:
    async def use(engine: EmbeddedEngine) -> None:
        prompt = prompt_of(100)
        first = await engine.generate(prompt, params_of(10), session="a")
        computed = engine.counters.computed_tokens
        longer = prompt + first.token_ids + prompt_of(20, seed=1)
        await Checked(engine, model).ask(longer, params_of(1), "a")
        assert engine.counters.computed_tokens - computed == 20 + 1  # the last one sampled, too

    with_engine(model, use)


def test_a_group_computes_its_common_prompt_once(model: PreTrainedModel) -> None:
    async def use(engine: EmbeddedEngine) -> None:
        checked = Checked(engine, model)
        group = [checked.ask(prompt_of(100), params_of(1), f"e{i}") for i in range(8)]
        answers = await asyncio.gather(*group)
        assert engine.counters.computed_tokens == 100 + 7
        assert len({answer.token_ids[0] for answer in answers}) > 1, "each has its randomness"

    with_engine(model, use)


def test_concurrent_agents_of_a_session_keep_their_own_histories(model: PreTrainedModel) -> None:
    async def agent(checked: Checked, number: int) -> None:
        ids = prompt_of(40) + prompt_of(20, seed=number)
        for _ in range(4):
            answer = await checked.ask(ids, params_of(6), session="the same")
            ids = ids + answer.token_ids + prompt_of(4, seed=number)

    async def use(engine: EmbeddedEngine) -> None:
        checked = Checked(engine, model)
        await asyncio.gather(*[agent(checked, number) for number in range(1, 5)])
        first = 40 + 4 * 20
        assert engine.counters.computed_tokens <= first + 4 * 4 * (4 + 1 + 6)

    with_engine(model, use)


def ask_one(model: PreTrainedModel, params: SamplingParams, **options: Any) -> Generation:
    return with_engine(
        model, lambda engine: engine.generate(prompt_of(20), params, session="a"), **options
    )


def test_the_seed_alone_decides(model: PreTrainedModel) -> None:
    async def use(engine: EmbeddedEngine) -> list[list[int]]:
        params = [params_of(12, seed=seed) for seed in (5, 6, 5, 7)]
        asked = [engine.generate(prompt_of(20), p, session=f"s{i}") for i, p in enumerate(params)]
        return [answer.token_ids for answer in await asyncio.gather(*asked)]

    five, six, again, seven = with_engine(model, use)
    assert five == again == ask_one(model, params_of(12, seed=5), seed=3).token_ids
    assert len({tuple(ids) for ids in (five, six, seven)}) == 3


def test_without_a_seed_each_call_has_its_own_and_a_new_engine_repeats_them(
    model: PreTrainedModel,
) -> None:
    async def use(engine: EmbeddedEngine) -> list[tuple[int, ...]]:
        answers = [
            await engine.generate(prompt_of(20), params_of(12), session=session)
            for session in ("a", "a", "b")
        ]
        return [tuple(answer.token_ids) for answer in answers]

    first = with_engine(model, use)
    assert len(set(first)) == 3
    assert first == with_engine(model, use)
    assert not set(first) & set(with_engine(model, use, seed=1))


def test_zero_temperature_is_greedy_with_logprobs_of_the_plain_softmax(
    model: PreTrainedModel,
) -> None:
    answer = ask_one(model, params_of(12, temperature=0.0))
    assert answer.logprobs == pytest.approx(own_logprobs(model, prompt_of(20), answer), abs=1e-5)
    ids = torch.tensor([prompt_of(20)])
    with torch.no_grad():
        for token in answer.token_ids:
            assert token == int(model(input_ids=ids).logits[0, -1].argmax())
            ids = torch.cat([ids, torch.tensor([[token]])], dim=1)


def test_stop_tokens_strings_length_and_context_end_a_completion(model: PreTrainedModel) -> None:
    whole = ask_one(model, params_of(12, seed=1)).token_ids
    assert len(set(whole)) == 12, "choose another seed"
    stop_token = ask_one(model, params_of(12, seed=1, stop_token_ids=(0, whole[4])))
    assert (stop_token.token_ids, stop_token.finish_reason) == (whole[:5], "stop")
    text = f"{whole[6]} {whole[7]}"
    stop_string = ask_one(model, params_of(12, seed=1, stop=("no", text)))
    assert (stop_string.token_ids, stop_string.finish_reason) == (whole[:8], "stop")
    length = ask_one(model, params_of(3, seed=1))
    assert (length.token_ids, length.finish_reason) == (whole[:3], "length")
    context = ask_one(model, params_of(12, seed=1), max_model_len=25)
    assert (context.token_ids, context.finish_reason) == (whole[:5], "length")


def test_tokens_are_reported_as_they_are_sampled(model: PreTrainedModel) -> None:
    told: list[tuple[int, float]] = []
    answer = with_engine(
        model,
        lambda engine: engine.generate(
            prompt_of(20), params_of(), session="a", on_token=lambda *token: told.append(token)
        ),
    )
    assert told == list(zip(answer.token_ids, answer.logprobs, strict=True))


def test_a_prompt_without_room_or_with_unknown_ids_is_refused_and_harms_nobody(
    model: PreTrainedModel,
) -> None:
    async def use(engine: EmbeddedEngine) -> None:
        with pytest.raises(ContextLengthError, match="maximum context length is 256"):
            await engine.generate(prompt_of(256), params_of(), session="a")
        for prompt in ([], [VOCABULARY], [-1]):
            with pytest.raises(ModelError, match="ids from 0 to 659"):
                await engine.generate(prompt, params_of(), session="a")
        await Checked(engine, model).ask(prompt_of(255), params_of())

    with_engine(model, use)


def change(model: PreTrainedModel) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)


def test_new_weights_are_used_and_nothing_kept_from_the_old(model: PreTrainedModel) -> None:
    async def use(engine: EmbeddedEngine) -> None:
        checked = Checked(engine, model)
        before = await checked.ask(prompt_of(50), params_of(8))
        change(model)
        engine.weights_changed()
        after = await checked.ask(prompt_of(50) + before.token_ids, params_of(8))
        assert engine.policy_version == 4
        assert (before.policy_versions, after.policy_versions) == ([3] * 8, [4] * 8)

    with_engine(model, use, policy_version=3)


def test_the_check_fails_where_kept_key_values_are_stale(model: PreTrainedModel) -> None:
    """A negative control: weights that change without a word give other logprobs."""

    async def use(engine: EmbeddedEngine) -> None:
        checked = Checked(engine, model)
        before = await checked.ask(prompt_of(50), params_of(8))
        change(model)
        with pytest.raises(AssertionError):
            await checked.ask(prompt_of(50) + before.token_ids, params_of(8))

    with_engine(model, use)


class Unhurried:
    """Lets an engine wait after every token from the twentieth on, until `go_on`.

    Otherwise, the engine might be done before a busy machine lets the test's own thread work.
    """

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.num_tokens = 0

    def __call__(self, token: int, logprob: float) -> None:
        self.num_tokens += 1
        if self.num_tokens >= 20:
            self.go_on.wait(0.05)


def test_a_completion_goes_on_across_an_update_with_the_logprobs_of_each_version(
    model: PreTrainedModel,
) -> None:
    old = copy.deepcopy(model)

    async def use(engine: EmbeddedEngine) -> Generation:
        unhurried = Unhurried()
        asked = asyncio.ensure_future(
            engine.generate(prompt_of(20), params_of(200), session="a", on_token=unhurried)
        )
        while engine.counters.sampled_tokens < 20:
            await asyncio.sleep(0.001)
        with engine.weights_update():
            unhurried.go_on.set()
            steps = engine.counters.passes
            time.sleep(0.02)
            assert engine.counters.passes == steps, "the engine stands still during an update"
            change(model)
        return await asked

    answer: Generation = with_engine(model, use)
    first_new = answer.policy_versions.index(1)
    assert answer.policy_versions == [0] * first_new + [1] * (200 - first_new)
    expected = own_logprobs(old, prompt_of(20), answer)[:first_new]
    expected += own_logprobs(model, prompt_of(20), answer)[first_new:]
    assert answer.logprobs == pytest.approx(expected, abs=1e-5)


def test_what_comes_after_forget_is_as_in_a_new_engine_to_the_bit(model: PreTrainedModel) -> None:
    def calls(engine: EmbeddedEngine, seed: int) -> Any:
        prompts = [prompt_of(30) + prompt_of(5, seed=seed + i) for i in range(5)]
        return asyncio.gather(
            *[
                engine.generate(prompt, params_of(9, seed=1), session=f"{seed}/{i}")
                for i, prompt in enumerate(prompts)
            ]
        )

    async def after_others(engine: EmbeddedEngine) -> Any:
        await calls(engine, seed=100)
        engine.forget()
        return await calls(engine, seed=200)

    assert with_engine(model, after_others) == with_engine(model, lambda e: calls(e, seed=200))


def test_generation_leaves_the_model_as_it_was(model: PreTrainedModel) -> None:
    model.train()
    ask_one(model, params_of())
    assert model.training
    loss = model(input_ids=torch.tensor([prompt_of(9)])).logits.sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_cancelled_request_frees_its_place(model: PreTrainedModel) -> None:
    async def use(engine: EmbeddedEngine) -> None:
        ask = Checked(engine, model).ask
        unhurried = Unhurried()
        running = [
            asyncio.ensure_future(
                engine.generate(prompt_of(9), params_of(240), session="s", on_token=unhurried)
            )
            for _ in range(2)
        ]
        waiting = asyncio.ensure_future(ask(prompt_of(9), params_of(240)))
        last = asyncio.ensure_future(ask(prompt_of(7), params_of(5)))
        while engine.counters.sampled_tokens < 10:
            await asyncio.sleep(0.001)
        for task in (*running, waiting):
            task.cancel()
        unhurried.go_on.set()
        assert len((await last).token_ids) == 5
        assert engine.counters.sampled_tokens < 240
        results = await asyncio.gather(*running, waiting, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)

    with_engine(model, use, max_num_seqs=2)


@pytest.mark.parametrize("schedule", ["lockstep", "continuous"])
def test_callers_in_many_threads_and_loops_are_all_answered(
    model: PreTrainedModel, schedule: str
) -> None:
    async def use(engine: EmbeddedEngine) -> None:
        failures: list[BaseException] = []

        def worker(number: int) -> None:
            try:
                asyncio.run(Checked(engine, model).episode(number))
            except BaseException as error:
                failures.append(error)
            engine.close_session(f"e{number}")

        threads = [threading.Thread(target=worker, args=(number,)) for number in range(12)]
        for number in range(12):
            engine.open_session(f"e{number}")
        for thread in threads:
            thread.start()
        await asyncio.to_thread(lambda: [thread.join() for thread in threads])
        assert failures == []

    with_engine(model, use, schedule=schedule)


def break_weights(model: PreTrainedModel) -> None:
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)


def break_code(model: PreTrainedModel) -> None:
    def forward(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    model.forward = forward  # type: ignore[method-assign]


def test_a_request_with_nan_logits_fails_alone(model: PreTrainedModel) -> None:
    poison, stock = VOCABULARY - 1, model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = stock(*args, **kwargs)
        is_poisoned = (kwargs["input_ids"] == poison).any(1)
        output.logits[is_poisoned] = torch.nan
        return output

    async def use(engine: EmbeddedEngine) -> None:
        prompts = [prompt_of(9, seed) for seed in range(6)]
        alone = [await engine.generate(p, params_of(seed=1), session="x") for p in prompts]
        prompts[2] = [*prompts[2][:-1], poison]
        model.forward = forward  # type: ignore[method-assign]
        asked = [
            engine.generate(p, params_of(seed=1), session=f"{i}") for i, p in enumerate(prompts)
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(answers[2], EngineError)
        assert "NaN or infinite for this request" in str(answers[2])
        for number in (0, 1, 3, 4, 5):
            assert answers[number].token_ids == alone[number].token_ids
        await engine.generate(prompts[0], params_of(), session="later")

    with_engine(model, use)


@pytest.mark.parametrize("temperature", [1e-300, 0.009, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_no_engine_computes_is_refused(temperature: float) -> None:
    with pytest.raises(RequestError, match=r"temperature is .*; expected 0 .*or 0\.01 or more"):
        params_of(temperature=temperature)


@pytest.mark.parametrize(
    ("break_model", "message"),
    [(break_weights, "NaN"), (break_code, "RuntimeError: out of memory")],
)
def test_a_failure_reaches_all_callers_then_and_later(
    model: PreTrainedModel, break_model: Callable[[PreTrainedModel], None], message: str
) -> None:
    break_model(model)

    async def use(engine: EmbeddedEngine) -> None:
        asked = [engine.generate([1], params_of(), session=f"{i}") for i in range(4)]
        errors = await asyncio.gather(*asked, return_exceptions=True)
        with pytest.raises(EngineError, match=message) as later:
            await engine.generate([1], params_of(), session="later")
        errors.append(later.value)
        for error in errors:
            assert isinstance(error, EngineError)
            assert message in str(error)
            assert isinstance(error.__cause__, RuntimeError | EngineError)
        assert len({id(error) for error in errors}) == 5
        with engine.weights_update():
            pass  # does not hang

    with_engine(model, use, max_num_seqs=2)


def test_a_closed_engine_ends_its_thread_and_answers_with_an_error(
    model: PreTrainedModel,
) -> None:
    async def run() -> None:
        async with serving(model) as engine:
            pending = asyncio.ensure_future(
                engine.generate(prompt_of(9), params_of(240), session="a", on_token=Unhurried())
            )
            await asyncio.sleep(0.01)
        with pytest.raises(EngineError, match="closed"):
            await pending
        with pytest.raises(EngineError, match="closed"):
            await engine.generate([1], params_of(), session="a")
        await engine.aclose()

    before = set(threading.enumerate())
    asyncio.run(run())
    assert set(threading.enumerate()) <= before


def test_what_the_engine_cannot_serve_is_refused(model: PreTrainedModel) -> None:
    message = "max_model_len is 4096, but the model has only 2048 positions"
    with pytest.raises(ModelError, match=message):
        ask_one(model, params_of(), max_model_len=4096)
    model.config.layer_types = ["full_attention", "linear_attention", "full_attention"]
    with pytest.raises(ModelError, match="qwen3 has layers of type linear_attention"):
        ask_one(model, params_of())
    model.set_attn_implementation("flex_attention")
    with pytest.raises(
        ModelError, match="attn_implementation is 'flex_attention'; the embedded engine needs"
    ):
        ask_one(model, params_of())


def test_a_saved_model_loads_as_it_was(model: PreTrainedModel, tmp_path: Any) -> None:
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    answers = [ask_one(either, params_of(12)) for either in (model, loaded)]
    assert answers[0] == answers[1]
    assert load_model(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_what_is_no_model_folder_is_a_clear_error(model: PreTrainedModel, tmp_path: Any) -> None:
    with pytest.raises(ModelError, match=r"missing: there is no such folder"):
        load_model(tmp_path / "missing")
    with pytest.raises(ModelError, match=r"is not the folder of a model: it has no config.json"):
        load_model(tmp_path)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"cannot be loaded as a causal language model: .*safet"):
        load_model(tmp_path)
