"""Episodes that fail are data; the run stops when too many of one step do.

1. Every kind of failure is counted, its cause is in `episodes.jsonl`, and the run goes on. An
   episode that hangs takes nobody with it, whether it awaits or blocks its thread.
2. A prompt that is too long reaches the agent as the API's own error. An agent that does not
   catch it ends, and the judge decides on what there is.
3. Above `max_failure_share` the run stops, says why, and keeps every step that was done: mended,
   it is the run in which nothing failed.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.end_to_end.command import OPENAI_AGENT, train
from tests.end_to_end.run_folders import NAME, assert_same_run, checkpoints_of, lines_of

FAILING = "tests/end_to_end/failing.py"
ZERO_DIVISION = "ZeroDivisionError: the tool is broken"
CAUSES = {
    ZERO_DIVISION: "workflow_error",
    "EpisodeError: the workflow returned None: return a WorkflowOutput": "invalid_output",
    "EpisodeError: the reward is nan; it must be a finite number": "invalid_output",
    "not done after 12 s (rollout.episode_timeout_s)": "timeout",
}


def test_failed_episodes_are_data(tmp_path: Path) -> None:
    ended = train(
        tmp_path,
        f"{FAILING}->InEveryWay",
        "rollout.episode_timeout_s=12",
        "trainer_common.total_training_steps=2",
        "trainer_common.val_before_train=false",
    )
    assert ended.code == 0, ended.stderr
    folder = tmp_path / NAME

    first, second = lines_of(folder / "metrics.jsonl")
    assert (first["episode/count"], first["episode/failed"]) == (16, 5)
    assert (second["episode/count"], second["episode/failed"]) == (16, 0)
    assert first["workflow/noticed"] == 1.0

    episodes = [line for line in lines_of(folder / "episodes.jsonl") if line["step"] == 1]
    failed = [line for line in episodes if line["outcome"] != "ok"]
    assert {line["cause"]: line["outcome"] for line in failed} == CAUSES
    assert Counter(line["outcome"] for line in failed) == {
        "workflow_error": 1,
        "invalid_output": 2,
        "timeout": 2,
    }
    tracebacks = {line["cause"]: line["traceback"] for line in failed}
    assert "failing.py" in tracebacks[ZERO_DIVISION]
    assert all(line["reward"] is None for line in failed)
    too_long = [line for line in episodes if line["outcome"] == "ok" and not line["num_calls"]]
    assert [line["reward"] for line in too_long] == [0.0, 0.0]

    assert "5 of 16 episodes failed" in ended.stderr
    assert "time.sleep(FOREVER_S)" in ended.stderr  # where the blocked thread is


def test_too_many_failures_stop_the_run_and_lose_nothing(
    tmp_path: Path, uninterrupted: Path
) -> None:
    folder = tmp_path / NAME
    ended = train(tmp_path, f"{FAILING}->InStepFour")
    cause = "ConnectionError: the search service does not answer"
    assert ended.code == 1
    assert ended.errors[:2] == ["9 of 16 episodes failed:", f"  9 x workflow_error: {cause}"]
    assert ended.errors[-1] == "That is more than rollout.max_failure_share = 0.5 allows."
    failed = [line for line in lines_of(folder / "episodes.jsonl") if line["outcome"] != "ok"]
    assert {(line["step"], line["phase"], line["cause"]) for line in failed} == {
        (4, "train", cause)
    }
    assert len(failed) == 9
    assert checkpoints_of(folder)[-1].name == "step_000003"

    assert train(tmp_path, OPENAI_AGENT, "--resume").code == 0
    assert_same_run(folder, uninterrupted)
