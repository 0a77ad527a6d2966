"""Rules of `episodes.jsonl`: one line per episode with its outcome and the cause of a failure."""

from __future__ import annotations

from pathlib import Path

from ajet.monitor.durable_files import read_json_lines
from ajet.monitor.episode_log import FILE_NAME, EpisodeLog
from ajet.schema.episode import Failure
from tests.unit.monitor_records import make_episode


def test_an_episode_is_one_line_with_outcome_costs_and_times(tmp_path: Path) -> None:
    EpisodeLog(tmp_path).write(7, "eval_greedy", [make_episode()])
    (line,) = read_json_lines(tmp_path / FILE_NAME)
    assert (line["step"], line["phase"], line["outcome"]) == (7, "eval_greedy", "ok")
    assert (line["reward"], line["is_success"], line["cause"]) == (1.0, True, None)
    assert line["num_calls"] == 3
    assert line["tokens"] == {
        "calls": 8 + 16 + 24,
        "sampled": 15,
        "trained_sequence": 24,
        "trained": 15,
    }
    assert (line["duration_s"], line["calls_s"]) == (4.0, 1.5)


def test_a_failed_episode_has_its_cause_and_no_reward(tmp_path: Path) -> None:
    episode = make_episode()
    episode.failure = Failure(kind="workflow_error", message="ValueError: no", traceback="Trace…")
    episode.reward = episode.is_success = None
    episode.dropped_tokens = {"max_response_length": 12}
    EpisodeLog(tmp_path).write(1, "train", [episode])
    (line,) = read_json_lines(tmp_path / FILE_NAME)
    assert (line["outcome"], line["cause"]) == ("workflow_error", "ValueError: no")
    assert (line["reward"], line["is_success"], line["traceback"]) == (None, None, "Trace…")
    assert line["dropped_tokens"] == {"max_response_length": 12}


def test_resuming_drops_the_episodes_of_later_steps(tmp_path: Path) -> None:
    log = EpisodeLog(tmp_path)
    for step in (1, 2, 3):
        log.write(step, "train", [make_episode(), make_episode(solved=False)])
    EpisodeLog(tmp_path, resumed_step=2)
    assert [line["step"] for line in read_json_lines(tmp_path / FILE_NAME)] == [1, 1, 2, 2]
