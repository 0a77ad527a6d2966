"""The invariants of token fidelity, for agents that do anything to their history.

1. recorded ids and logprobs are the engine's, on both sides of the call;
2. every sampled token of a trained agent has loss in exactly one sample, and no other token has;
3. a trained token stands in exactly the context in which it was sampled;
4. the order in which calls are inserted, and repetition, change nothing;
5. trained tokens are the sampled ones minus what a named rule dropped;
6. merged samples give the loss and gradients of one sample per call: tests/torch/test_forward.py;
7. the trainer's logprobs are the engine's: tests/torch/test_embedded_engine.py and every run;
8. text decides nothing: sampled ids here decode to broken text, and stay as they are;
9. sibling calls stay separate, also when they sampled the same ids;
10. all of it for every chat format, thinking ones included.
"""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ajet.context_tracker.samples import SampleLimits, build_samples
from ajet.schema.episode import Call, Sample
from tests.property.random_agents import FORMATS, programs, run_program

formats = st.integers(0, len(FORMATS) - 1)
seeds = st.integers(0, 1 << 30)


def trained_tokens(samples: list[Sample]) -> Counter[tuple[int, int]]:
    """How often each (call, position in its completion) has loss."""
    counted: Counter[tuple[int, int]] = Counter()
    for sample in samples:
        next_position: Counter[int] = Counter()
        for call in sample.call_index[sample.loss_mask].tolist():
            counted[call, next_position[call]] += 1
            next_position[call] += 1
    return counted


def sampled_tokens(calls: list[Call]) -> Counter[tuple[int, int]]:
    """Each token that a trained agent sampled, once."""
    return Counter(
        (call.index, position)
        for call in calls
        if call.trained
        for position in range(len(call.completion_ids))
    )


def context_of(call: Call, calls: list[Call]) -> list[int]:
    """The call's whole prompt, put together from what was recorded."""
    by_id = {other.call_id: other for other in calls}
    parts = [call.delta_ids]
    while call.parent_id is not None:
        call = by_id[call.parent_id]
        parts += [call.completion_ids, call.delta_ids]
    return [int(token) for part in reversed(parts) for token in part]


def same(left: list[Sample], right: list[Sample]) -> bool:
    """Equal in every array."""
    names = ("ids", "loss_mask", "logprobs", "call_index", "policy_versions", "temperature")
    return len(left) == len(right) and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(left, right, strict=True)
        for name in names
    )


@given(programs, formats, seeds)
@settings(max_examples=150, deadline=None)
def test_1_what_is_recorded_is_what_the_engine_saw_and_returned(program, form, seed):
    tracker, engine = run_program(program, form, seed)
    calls = tracker.calls
    recorded = sorted(
        (context_of(call, calls), call.completion_ids.tolist(), call.policy_versions.tolist())
        for call in calls
    )
    seen = sorted(
        (r.prompt_ids, r.generation.token_ids, r.generation.policy_versions) for r in engine.log
    )
    assert recorded == seen
    logprobs = sorted(tuple(np.float32(r.generation.logprobs)) for r in engine.log)
    assert sorted(tuple(call.logprobs) for call in calls) == logprobs
    assert all(call.prompt_length == len(context_of(call, calls)) for call in calls)


@given(programs, formats, seeds, st.integers(-1, 2))
@settings(max_examples=150, deadline=None)
def test_2_every_sampled_token_of_a_trained_agent_is_trained_once(program, form, seed, untrained):
    tracker, _ = run_program(program, form, seed, untrained)
    samples, dropped = tracker.samples()
    assert trained_tokens(samples) == sampled_tokens(tracker.calls)
    assert not dropped
    for sample in samples:
        assert (sample.call_index >= 0).tolist() == sample.loss_mask.tolist()
        assert not sample.logprobs[~sample.loss_mask].any()


@given(programs, formats, seeds)
@settings(max_examples=150, deadline=None)
def test_3_a_trained_token_stands_in_the_context_in_which_it_was_sampled(program, form, seed):
    tracker, _ = run_program(program, form, seed)
    samples, _ = tracker.samples()
    calls = tracker.calls
    contexts = {call.index: context_of(call, calls) for call in calls}
    for sample in samples:
        position: Counter[int] = Counter()
        for t in np.flatnonzero(sample.loss_mask):
            call = calls[sample.call_index[t]]
            k = position[call.index]
            position[call.index] += 1
            assert sample.ids[t] == call.completion_ids[k]
            assert sample.logprobs[t] == call.logprobs[k]
            assert sample.policy_versions[t] == call.policy_versions[k]
            expected = contexts[call.index] + call.completion_ids[:k].tolist()
            assert sample.ids[:t].tolist() == expected


@given(programs, formats, seeds, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_4_order_and_repetition_of_insertion_change_nothing(program, form, seed, shuffle):
    tracker, _ = run_program(program, form, seed)
    calls = tracker.calls
    again = [*calls, *random.Random(seed).choices(calls, k=3)]
    shuffle.shuffle(again)
    straight, _ = build_samples(calls, "episode", "task")
    shuffled, _ = build_samples(again, "episode", "task")
    assert same(straight, shuffled)


@given(programs, formats, seeds, st.integers(1, 200), st.integers(1, 40), st.integers(0, 4))
@settings(max_examples=100, deadline=None)
def test_5_what_is_not_trained_is_counted_by_its_rule(program, form, seed, prompt, response, most):
    tracker, _ = run_program(program, form, seed)
    limits = SampleLimits(max_prompt_length=prompt, max_response_length=response, max_samples=most)
    samples, dropped = tracker.samples(limits)
    sampled = sum(len(call.completion_ids) for call in tracker.calls)
    assert sum(sample.num_trained for sample in samples) + sum(dropped.values()) == sampled
    assert len(samples) <= most
    for sample in samples:
        first = int(np.argmax(sample.loss_mask))
        assert first <= prompt
        assert len(sample) - first <= response


@given(programs, formats, seeds)
@settings(max_examples=100, deadline=None)
def test_8_a_continued_call_keeps_the_ids_that_were_sampled(program, form, seed):
    tracker, engine = run_program(program, form, seed)
    sampled = {tuple(r.prompt_ids + r.generation.token_ids) for r in engine.log}
    calls = tracker.calls
    for call in calls:
        if call.parent_id is not None:
            own = context_of(call, calls)
            head = tuple(own[: len(own) - len(call.delta_ids)])
            assert head in sampled


def make_call(index: int, delta: list[int], completion: list[int], parent: str | None) -> Call:
    return Call(
        call_id=f"c{index}",
        index=index,
        agent_name="a",
        target_tag="t",
        trained=True,
        parent_id=parent,
        new_timeline=None if parent else "first_call",
        prompt_length=len(delta),
        delta_ids=np.array(delta, np.int32),
        completion_ids=np.array(completion, np.int32),
        logprobs=-np.arange(1, len(completion) + 1, dtype=np.float32),
        policy_versions=np.zeros(len(completion), np.int32),
        temperature=1.0,
        finish_reason="stop",
    )


def ids_of(calls: list[Call]) -> list[list[int]]:
    samples, _ = build_samples(calls, "episode", "task")
    assert trained_tokens(samples) == sampled_tokens(calls)
    return [sample.ids.tolist() for sample in samples]


def test_9_siblings_that_sampled_the_same_ids_are_two_samples():
    calls = [make_call(i, [5, 6, 7], [8, 9], None) for i in range(2)]
    assert ids_of(calls) == [[5, 6, 7, 8, 9]] * 2


def test_9_a_prompt_that_leaves_a_completion_midway_forks_there_and_the_call_goes_on_behind_it():
    first = make_call(0, [5], [8, 9, 10], None)
    edited = make_call(1, [5, 8, 9, 77], [20], None)
    continued = make_call(2, [30], [40], "c0")
    assert ids_of([first, edited, continued]) == [[5, 8, 9, 10, 30, 40], [5, 8, 9, 77, 20]]


def test_4_the_order_of_arrival_decides_which_timeline_trains_a_shared_token():
    first, left, right = (
        make_call(0, [5], [8], None),
        make_call(1, [6], [9], "c0"),
        make_call(2, [7], [9], "c0"),
    )
    samples, _ = build_samples([right, left, first], "episode", "task")
    assert [sample.loss_mask.tolist() for sample in samples] == [
        [False, True, False, True],
        [False, False, False, True],
    ]


@pytest.mark.parametrize("form", range(len(FORMATS)))
def test_10_a_plain_conversation_is_one_timeline_where_the_format_can_extend_it(form):
    program = [(0, "extend", 1)] + [(0, "extend", number) for number in range(2, 6)]
    tracker, _ = run_program(program, form, seed=3)
    samples, _ = tracker.samples()
    assert trained_tokens(samples) == sampled_tokens(tracker.calls)
    if FORMATS[form] == ("qwen3", {"enable_thinking": False}):
        assert len(samples) == 1


def test_the_check_of_contexts_can_fail():
    tracker, _ = run_program([(0, "extend", 1), (0, "extend", 2)], 0, seed=1)
    samples, _ = tracker.samples()
    calls = tracker.calls
    samples[0].ids[2] += 1
    assert samples[0].ids[: calls[0].prompt_length].tolist() != context_of(calls[0], calls)
