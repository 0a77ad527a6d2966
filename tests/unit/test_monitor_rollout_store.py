"""Rules of `rollouts/`: one complete file per step, with the calls and messages of each sample."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ajet.monitor.rollout_store import RolloutStore, read_rollouts, rollout_path
from ajet.schema.episode import Episode, Failure
from tests.unit.monitor_records import QUERY, SYSTEM, make_call, make_episode, make_sample


def test_a_step_is_one_file_named_for_it(tmp_path: Path) -> None:
    path = RolloutStore(tmp_path).write(12, [make_episode()])
    assert path == rollout_path(tmp_path, 12) == tmp_path / "rollouts" / "step_000012.parquet"
    assert [file.name for file in path.parent.iterdir()] == ["step_000012.parquet"]
    assert len(read_rollouts(path)) == 1


def test_a_step_without_samples_is_a_file_without_rows(tmp_path: Path) -> None:
    assert read_rollouts(RolloutStore(tmp_path).write(1, [])) == []


def continued(parent_id: str) -> dict[str, str | None]:
    return {"parent_id": parent_id, "new_timeline": None}


def test_call_spans_are_the_trained_tokens_of_each_call(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, make_episode())
    opened = {"parent_id": None, "new_timeline": "first_call"}
    assert row["call_spans"] == [
        {"start": 3, "end": 8, "agent": "solver", "call_id": "call-0"} | opened,
        {"start": 11, "end": 16, "agent": "solver", "call_id": "call-1"} | continued("call-0"),
        {"start": 19, "end": 24, "agent": "solver", "call_id": "call-2"} | continued("call-1"),
    ]


def test_messages_are_the_conversation_up_to_the_last_trained_call(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, make_episode())
    messages = json.loads(row["messages"])
    roles = ["system", "user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert [message["role"] for message in messages] == roles
    assert [messages[i]["content"] for i in (0, 1, 3, 6)] == [SYSTEM, QUERY, "66", "Answer: 49"]


def test_the_sample_of_a_fork_has_the_messages_of_its_own_branch(tmp_path: Path) -> None:
    episode = make_episode()
    first = episode.calls[0]
    answer = {"role": "assistant", "content": "other branch"}
    other = make_call(3, [{"role": "tool", "content": "65"}], answer, parent=first)
    episode.calls.append(other)
    episode.samples.append(make_sample(episode.episode_id, [other]))
    _, row = rows(tmp_path, episode)
    messages = json.loads(row["messages"])
    assert [message["content"] for message in messages[-2:]] == ["65", "other branch"]
    assert "66" not in row["messages"]


def test_a_failed_episode_is_kept_with_null_reward(tmp_path: Path) -> None:
    episode = make_episode()
    episode.reward = episode.is_success = None
    episode.failure = Failure(kind="timeout", message="30 s")
    (row,) = rows(tmp_path, episode)
    assert (row["reward"], row["is_success"]) == (None, None)


def test_resuming_removes_later_steps_and_files_that_were_being_written(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path)
    for step in (1, 2, 3):
        store.write(step, [make_episode()])
    rollout_path(tmp_path, 4).with_suffix(".parquet.tmp").write_bytes(b"half")
    RolloutStore(tmp_path, resumed_step=2)
    names = sorted(file.name for file in (tmp_path / "rollouts").iterdir())
    assert names == ["step_000001.parquet", "step_000002.parquet"]


def test_a_new_run_does_not_write_into_the_folder_of_another(tmp_path: Path) -> None:
    RolloutStore(tmp_path)
    with pytest.raises(FileExistsError):
        RolloutStore(tmp_path)


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path)
    episode = make_episode()
    episode.samples[0].call_index[5] = 99
    with pytest.raises(KeyError):
        store.write(1, [episode])
    assert list((tmp_path / "rollouts").iterdir()) == []


def rows(run_dir: Path, episode: Episode) -> list[dict[str, object]]:
    return pq.read_table(RolloutStore(run_dir).write(1, [episode])).to_pylist()


def test_the_trainers_logprobs_are_a_column_where_they_were_computed(tmp_path: Path) -> None:
    store, episodes = RolloutStore(tmp_path), [make_episode(), make_episode(repeat_index=1)]
    store.write(1, episodes)
    assert "trainer_logprobs" not in pq.read_table(rollout_path(tmp_path, 1)).column_names
    sample = episodes[0].samples[0]
    sample.keep_trainer_logprobs(np.full(sample.num_trained, -0.25, np.float32))
    store.write(2, episodes)
    first, second = pq.read_table(rollout_path(tmp_path, 2)).column("trainer_logprobs").to_pylist()
    assert [value == -0.25 for value in first] == sample.loss_mask.tolist()
    assert second is None
    assert read_rollouts(rollout_path(tmp_path, 2))[0].trainer_logprobs is None
