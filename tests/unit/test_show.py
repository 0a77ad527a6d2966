"""`ajet show`: the episodes of a step in the terminal; and the transcripts of each step.

1. Without a choice, the episodes of the last step are listed, the lowest reward first.
2. `--worst`, `--best`, `--failed`, `--task`, `--agent`, `--episode` choose; `-n` says how many.
3. What cannot be shown is one sentence.
4. Sampled text never controls the terminal.
5. `transcripts/step_N.txt` has the lowest and highest reward and a failure of each step; a resumed
   run removes those of later steps, and an episode that cannot be shown ends nothing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ajet.cli import app
from ajet.errors import AjetError
from ajet.monitor.call_store import CallStore
from ajet.monitor.episode_log import EpisodeLog
from ajet.monitor.rollout_store import RolloutStore
from ajet.monitor.step_transcripts import StepTranscripts
from ajet.schema.episode import Episode, Failure, Group
from ajet.schema.task import Task
from tests.unit.monitor_records import make_call, make_episode

CLEAR_SCREEN = "\x1b[2J"


def failing() -> Episode:
    episode = make_episode(solved=False, repeat_index=2)
    failure = Failure(kind="workflow_error", message=f"tool {CLEAR_SCREEN} broke")
    return replace(
        episode, episode_id="failing-1", failure=failure, reward=None, is_success=None, samples=[]
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two steps of three episodes."""
    log, calls, samples = EpisodeLog(tmp_path), CallStore(tmp_path), RolloutStore(tmp_path)
    for step in (1, 2):
        episodes = [make_episode(), make_episode(solved=False, repeat_index=1), failing()]
        log.write(step, "train", episodes)
        calls.write(step, [Group(task=Task(task_id="calculator-1"), episodes=episodes)])
        samples.write(step, episodes)
    return tmp_path


def show(run: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["show", str(run), *arguments], env={"COLUMNS": "100"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    return result.output


def test_without_a_choice_the_last_step_is_listed(run: Path) -> None:
    lines = show(run).splitlines()
    assert lines[0] == f"{run.name}, step 2: 3 episodes, mean reward 0.500, 1 failed"
    listed = [line.split()[2] for line in lines if line.lstrip().startswith("calculator-1")]
    assert listed == ["0", "1", "-"]
    assert f"ajet show {run} --step 2 --worst" in "".join(lines[-2:]).replace("\n", "")


def test_the_worst_and_the_best_are_conversations(run: Path) -> None:
    worst = show(run, "--step", "1", "--worst")
    assert "step 1: 3 episodes" in worst
    assert "assistant  Answer: 63" in worst
    assert "= no success, reward 0" in worst
    best = show(run, "--best")
    assert 'assistant  → calculator({"expression": "73 - 7"})' in best
    assert "tool       66" in best
    assert "note       5 tokens" in best
    assert "= success, reward 1" in best
    assert "Answer: 63" in show(run, "--best", "-n", "2")


def test_a_failure_shows_its_cause_and_controls_nothing(run: Path) -> None:
    text = show(run, "--failed")
    assert "= workflow_error: tool \\x1b[2J broke" in text
    assert "episode failing-1" in text


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        (["--task", "calculator-1", "-n", "9"], 3),
        (["--agent", "solver", "-n", "9"], 3),
        (["--episode", "failing"], 1),
    ],
)
def test_episodes_of_a_task_an_agent_or_an_id(run: Path, arguments: list[str], number: int) -> None:
    assert show(run, *arguments).count("task calculator-1, repeat") == number


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--step", "7"], "step 7 has no training episodes; the run has steps 1 to 2"),
        (["--task", "none"], "no episode of step 2 is of that kind; leave out a condition"),
        (["--worst", "--best"], "--worst and --best exclude each other; give only one of them"),
    ],
)
def test_what_is_not_there_is_one_sentence(run: Path, arguments: list[str], told: str) -> None:
    with pytest.raises(AjetError) as error:
        show(run, *arguments)
    assert str(error.value) == told


def test_a_run_without_episodes_and_a_run_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(AjetError, match="no training episode is recorded yet"):
        show(tmp_path)
    with pytest.raises(AjetError, match='there is no run "nothing"; looked in nothing and '):
        show(Path("nothing"))


def test_a_step_whose_conversations_are_lost_shows_what_there_is(run: Path) -> None:
    (run / "calls" / "step_000002.parquet").unlink()
    text = show(run, "--worst")
    assert "= no success, reward 0" in text
    assert "calls/step_000002.parquet is not there: no conversation" in text


def transcripts(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "transcripts").iterdir())


def test_each_step_leaves_its_extremes_and_a_failure_as_text(tmp_path: Path) -> None:
    writer = StepTranscripts(tmp_path)
    good, bad = make_episode(), make_episode(solved=False)
    writer.write(1, [good, bad, failing()])
    text = (tmp_path / "transcripts" / "step_000001.txt").read_text()
    assert text.startswith("step 1: 3 episodes\n\nLowest reward  task calculator-1\n")
    assert text.index("Answer: 63") < text.index("Highest reward") < text.index("Answer: 49")
    assert "= failed: workflow_error: tool \\x1b[2J broke" in text
    writer.write(2, [good, good])
    assert "Highest" not in (tmp_path / "transcripts" / "step_000002.txt").read_text()


def test_resuming_removes_the_transcripts_of_later_steps(tmp_path: Path) -> None:
    writer = StepTranscripts(tmp_path)
    for step in (1, 2):
        writer.write(step, [make_episode()])
    (tmp_path / "transcripts" / "step_000003.txt.tmp").touch()
    (tmp_path / "transcripts" / "before.json").touch()
    StepTranscripts(tmp_path, resumed_step=1)
    assert transcripts(tmp_path) == ["before.json", "step_000001.txt"]


@pytest.mark.parametrize("message", [{"content": [1]}, {"tool_calls": [7]}, {"content": "\ud800"}])
def test_an_episode_that_cannot_be_shown_ends_nothing(
    tmp_path: Path, message: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    episode = make_episode()
    episode.calls = [make_call(0, [{"role": "user", **message}], {"role": "assistant"})]
    StepTranscripts(tmp_path).write(1, [episode])
    is_written = (tmp_path / "transcripts" / "step_000001.txt").exists()
    assert is_written is not ("no transcripts of step 1" in caplog.text)
