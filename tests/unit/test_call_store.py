"""Rules of `calls/`: a step's episodes are restored unchanged; values that cannot be are named."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ajet.errors import DataError
from ajet.monitor.call_store import CallStore, call_path, read_calls, recorded_steps
from ajet.monitor.call_table import StoredStep
from ajet.schema.episode import Call, Episode, Failure, Group
from ajet.schema.task import Task, WorkflowOutput
from tests.unit.monitor_records import make_episode

CLOCK = ("started_s", "ended_s")


def stored(folder: Path, groups: list[Group], discarded: list[Group] | None = None) -> StoredStep:
    return read_calls(CallStore(folder).write(1, groups, discarded or []))


def group_of(*episodes: Episode) -> Group:
    return Group(task=episodes[0].task, episodes=list(episodes))


def one(folder: Path, episode: Episode) -> Episode:
    (group,) = stored(folder, [group_of(episode)]).groups
    (after,) = group.episodes
    return after


def rewarded(**fields_: Any) -> Episode:
    episode = make_episode()
    episode.call_rewards = np.full(len(episode.calls), 1.0)
    for name, value in fields_.items():
        setattr(episode, name, value)
    return episode


def assert_same_call(before: Call, after: Call) -> None:
    for name in (field.name for field in fields(Call) if field.name not in CLOCK):
        one, other = getattr(before, name), getattr(after, name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            assert one.tobytes() == other.tobytes(), name
        else:
            assert one == other, name


def test_every_call_is_restored_except_for_its_times(tmp_path: Path) -> None:
    before = rewarded()
    before.calls[1].tools = [{"type": "function", "function": {"name": "ä"}}]
    before.calls[1].temperature = 0.7
    before.calls[2].trained = False
    after = one(tmp_path, before)
    assert len(after.calls) == 3
    for call, again in zip(before.calls, after.calls, strict=True):
        assert_same_call(call, again)


def test_control_a_changed_call_is_detected(tmp_path: Path) -> None:
    before = rewarded()
    after = one(tmp_path, before)
    after.calls[0].completion_ids[2] += 1
    with pytest.raises(AssertionError):
        assert_same_call(before.calls[0], after.calls[0])


def test_output_and_rewards_are_restored(tmp_path: Path) -> None:
    output = WorkflowOutput(
        reward={"solver": 0.1}, is_success=False, metadata={"a": [1, None]}, log_metrics={"x": 2}
    )
    final_task = Task(main_query="q", task_id="t", metadata={"seen": 3})
    before = rewarded(output=output, final_task=final_task, reward_per="agent", reward=0.1)
    after = one(tmp_path, before)
    assert after.output == output
    assert after.final_task == final_task
    assert (after.reward, after.reward_per, after.is_success) == (0.1, "agent", True)
    assert after.call_rewards is not None
    assert after.call_rewards.dtype == np.float64
    assert after.call_rewards.tolist() == [1.0, 1.0, 1.0]


def test_a_failed_episode_is_restored_without_reward(tmp_path: Path) -> None:
    failure = Failure(kind="judge_error", message="KeyError: 'x'")
    before = rewarded(failure=failure, reward=None, call_rewards=None, is_success=None, calls=[])
    after = one(tmp_path, before)
    assert after.failure == failure
    assert (after.reward, after.call_rewards, after.is_success, after.calls) == (None,) * 3 + ([],)


def test_groups_keep_their_order_and_discarded_ones_are_marked(tmp_path: Path) -> None:
    groups = [
        group_of(rewarded(repeat_index=0), rewarded(repeat_index=1)),
        group_of(rewarded(repeat_index=0)),
    ]
    step = stored(tmp_path, groups, [group_of(rewarded(repeat_index=5))])
    assert [[e.repeat_index for e in g.episodes] for g in step.groups] == [[0, 1], [0]]
    assert [[e.repeat_index for e in g.episodes] for g in step.discarded] == [[5]]
    assert len(step.episodes) == 4


def test_a_step_without_episodes_is_a_file_without_rows(tmp_path: Path) -> None:
    assert stored(tmp_path, []) == StoredStep()


def test_values_that_json_cannot_hold_are_left_out_and_named(tmp_path: Path) -> None:
    circle: dict[str, Any] = {}
    circle["circle"] = circle
    metadata = {"answer": "49", "environment": object(), "circle": circle, "array": np.zeros(2)}
    task = Task(task_id="t", metadata={"set": {1, 2}, "kept": True})
    episode = rewarded(output=WorkflowOutput(metadata=metadata), final_task=task)
    step = stored(tmp_path, [group_of(episode)])
    (after,) = step.episodes
    assert after.output.metadata == {"answer": "49"}
    assert after.final_task is not None
    assert after.final_task.metadata == {"kept": True}
    assert step.not_stored == {
        episode.episode_id: [
            "task.metadata.set",
            "output.metadata.environment",
            "output.metadata.circle",
            "output.metadata.array",
        ]
    }


def test_the_record_is_written_whatever_a_workflow_did_to_its_task(tmp_path: Path) -> None:
    changed = Task(task_id="t")
    changed.main_query = ["of", "another", "type"]  # type: ignore[assignment]
    episode = rewarded(final_task=changed)
    assert one(tmp_path, episode).final_task == changed
    for number, anything in enumerate((object(), None, {})):
        (tmp_path / str(number)).mkdir()
        after = one(tmp_path / str(number), rewarded(final_task=anything))
        assert after.final_task == episode.task


def test_a_cause_that_is_not_utf8_is_escaped(tmp_path: Path) -> None:
    failure = Failure(kind="workflow_error", message="no file \udcff")
    after = one(tmp_path, rewarded(failure=failure, reward=None, call_rewards=None))
    assert after.failure is not None
    assert after.failure.message == "no file \\udcff"


def test_resuming_removes_later_steps(tmp_path: Path) -> None:
    store = CallStore(tmp_path)
    for step in (1, 2, 3):
        store.write(step, [group_of(rewarded())])
    CallStore(tmp_path, resumed_step=2)
    assert recorded_steps(tmp_path) == [1, 2]


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = CallStore(tmp_path).write(1, [group_of(rewarded())])
    pq.write_table(pq.read_table(path).replace_schema_metadata({b"ajet.calls": b"99"}), path)
    with pytest.raises(DataError, match="file version 99, expected 1: use the AgentJet"):
        read_calls(call_path(tmp_path, 1))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = CallStore(tmp_path).write(1, [group_of(rewarded())])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"step_000001\.parquet: cannot be read"):
        read_calls(path)


def test_the_same_episodes_make_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        episode = rewarded()
        episode.calls[0].started_s = hash(name)
        contents.append(CallStore(tmp_path / name).write(1, [group_of(episode)]).read_bytes())
    assert contents[0] == contents[1]


def test_a_file_that_only_looks_like_a_steps_is_no_step(tmp_path: Path) -> None:
    CallStore(tmp_path).write(1, [])
    for name in (
        "step_abc.parquet",
        "step_000001 (copy).parquet",
        "step_1.parquet",
        "step_.parquet",
    ):
        (tmp_path / "calls" / name).touch()
    assert recorded_steps(tmp_path) == [1]
    CallStore(tmp_path, resumed_step=0)
    assert recorded_steps(tmp_path) == []
    assert (tmp_path / "calls" / "step_abc.parquet").exists()
