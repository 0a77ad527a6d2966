"""What was trained on is read back exactly: values (bit by bit), order, dtypes, None."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ajet.monitor.rollout_store import RolloutStore, read_rollouts
from ajet.monitor.rollout_table import TOKEN_COLUMNS
from ajet.schema.episode import Call, Episode, GrammarSpan, Sample
from ajet.schema.task import Task

NUM_CALLS = 3
FLOATS = st.floats(width=32)
INT32 = st.integers(-(2**31), 2**31 - 1)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Any arrays that have the right types, also ones that no run makes (NaN, -0.0, empty)."""
    length = draw(st.integers(0, 40))

    def array(dtype: type[np.generic], elements: st.SearchStrategy[object]) -> np.ndarray:
        return draw(arrays(dtype, length, elements=elements))

    spans = st.builds(GrammarSpan, grammar=st.text(), start=INT32, stop=INT32)
    call_index = array(np.int32, st.integers(-1, NUM_CALLS - 1))
    return Sample(
        episode_id=draw(st.text()),
        task_id=draw(st.text()),
        agent_names=tuple(draw(st.lists(st.text(), max_size=3))),
        ids=array(np.int32, INT32),
        loss_mask=call_index >= 0,
        logprobs=array(np.float32, FLOATS),
        call_index=call_index,
        policy_versions=array(np.int32, INT32),
        temperature=array(np.float32, FLOATS),
        grammars=tuple(draw(st.lists(spans, max_size=2))),
        advantages=draw(st.none() | arrays(np.float32, length, elements=FLOATS)),
    )


def episode_with(members: list[Sample]) -> Episode:
    empty = np.zeros(0, np.int32)
    calls = [
        Call(
            call_id=f"c{index}",
            index=index,
            agent_name="a",
            target_tag="a",
            trained=True,
            parent_id=f"c{index - 1}" if index > 0 else None,
            new_timeline="first_call" if index == 0 else None,
            prompt_length=0,
            delta_ids=empty,
            completion_ids=empty,
            logprobs=empty.astype(np.float32),
            policy_versions=empty,
            temperature=1.0,
            finish_reason="stop",
        )
        for index in range(NUM_CALLS)
    ]
    return Episode(
        episode_id="e", task=Task(task_id="t"), repeat_index=0, calls=calls, samples=members
    )


def same(left: Sample, right: Sample) -> bool:
    """Equal in every field, arrays in dtype and bits."""
    for name in ("episode_id", "task_id", "agent_names", "grammars"):
        if getattr(left, name) != getattr(right, name):
            return False
    for name in TOKEN_COLUMNS:
        one, other = getattr(left, name), getattr(right, name)
        if (one is None) != (other is None):
            return False
        if one is not None and (one.dtype != other.dtype or one.tobytes() != other.tobytes()):
            return False
    return True


def through_the_store(groups: list[list[Sample]]) -> list[Sample]:
    with TemporaryDirectory() as folder:
        store = RolloutStore(Path(folder))
        return read_rollouts(store.write(1, [episode_with(members) for members in groups]))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(samples(), max_size=4), max_size=4))
def test_samples_come_back_as_they_were(groups: list[list[Sample]]) -> None:
    before = [sample for members in groups for sample in members]
    after = through_the_store(groups)
    assert len(after) == len(before)
    assert all(same(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("name", TOKEN_COLUMNS)
def test_control_one_changed_token_is_seen(name: str) -> None:
    sample = plain_sample()
    (after,) = through_the_store([[sample]])
    assert same(sample, after)
    changed = getattr(after, name)
    changed[2] = not changed[2] if name == "loss_mask" else changed[2] + 1
    assert not same(sample, after)


def test_arrays_that_come_back_can_be_written_to() -> None:
    """A trainer hands them to torch, which wants memory that is its own."""
    (sample,) = through_the_store([[plain_sample()]])
    assert all(getattr(sample, name).flags.writeable for name in TOKEN_COLUMNS)


def plain_sample() -> Sample:
    return Sample(
        episode_id="e",
        task_id="t",
        agent_names=("a",),
        ids=np.arange(4, dtype=np.int32),
        loss_mask=np.array([False, True, True, False]),
        logprobs=np.zeros(4, np.float32),
        call_index=np.array([-1, 0, 1, -1], np.int32),
        policy_versions=np.zeros(4, np.int32),
        temperature=np.ones(4, np.float32),
        advantages=np.zeros(4, np.float32),
    )
