"""The campaign of faults: a few rounds of it, and that each of its checks sees what it looks for.

1. A run that is killed while it writes resumes bit for bit; one that is killed together with its
   supervisors leaves nothing, too.
2. Hang, traceback, silence, orphan, file in the temporary folder, wrong count, and another result
   are each a problem of the round.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import checks
from tests.chaos.campaign import Campaign, Round, table
from tests.chaos.faults import FAULTS, Expected
from tests.chaos.runs import EPISODES_PER_STEP, MARK, STEPS, marked
from tests.end_to_end.command import Ended
from tests.end_to_end.temporary import NAMED, left_files
from tests.processes.service_processes import eventually

CONTINUES, KILLED, ENDS = Expected.CONTINUES, Expected.KILLED, Expected.ENDS
SEED = 2
"""The moment of its round 0 is in the middle of a run: after step 1."""


@pytest.fixture(scope="module")
def campaign() -> Iterator[Campaign]:
    campaign = Campaign("local", seed=SEED)
    yield campaign
    campaign.close()


def test_a_round_holds_and_a_changed_result_is_seen(campaign: Campaign) -> None:
    shown = campaign.round(0, "killed, last lines torn")
    assert shown.problems == [], shown
    changed = campaign.reference.root / "changed"
    shutil.copytree(campaign.reference.folder, changed, symlinks=True)
    assert checks.another_run(changed, campaign.reference.folder) == ""
    lines = (changed / "metrics.jsonl").read_text().replace('"step": 2', '"step": 2, "x": 1')
    (changed / "metrics.jsonl").write_text(lines)
    assert "'x'" in checks.another_run(changed, campaign.reference.folder)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "kind"), [(1, "run and supervisors killed"), (2, "Ctrl-C")])
def test_more_rounds_hold(campaign: Campaign, number: int, kind: str) -> None:
    shown = campaign.round(number, kind)
    assert shown.problems == [], shown


def finished(folder: Path, outcome: str = "finished") -> Path:
    """A run folder with the records of a finished run."""
    (folder / "run.json").write_text(json.dumps({"processes": [{"outcome": outcome}]}))
    steps = range(1, STEPS + 1)
    write(folder / "metrics.jsonl", [{"step": step, "reward/mean": 0.5} for step in steps])
    write(
        folder / "episodes.jsonl",
        [
            {"step": step, "phase": "train", "episode_id": f"{step} {number}"}
            for step in steps
            for number in range(EPISODES_PER_STEP)
        ],
    )
    return folder


def write(path: Path, lines: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def ended(code: int, text: str = "") -> Ended:
    return Ended(code=code, stdout=text, stderr=text)


@pytest.mark.parametrize(
    ("end", "expected", "outcome", "problem"),
    [
        (None, CONTINUES, "finished", "did not end"),
        (ended(0), CONTINUES, "finished", ""),
        (ended(0), CONTINUES, "running", "exit 0, but running"),
        (ended(1, "error: the disk is full"), CONTINUES, "failed", "expected to continue"),
        (ended(1, "error: the disk is full"), ENDS, "failed", ""),
        (ended(1, ""), ENDS, "failed", "without a sentence"),
        (ended(1, "error: x\nTraceback (most recent call last)"), ENDS, "failed", "traceback"),
        (ended(-signal.SIGSEGV), ENDS, "running", "ended by signal 11"),
        (ended(-signal.SIGKILL), KILLED, "running", ""),
        (ended(1, "error: x"), KILLED, "failed", "expected SIGKILL"),
    ],
)
def test_an_unclear_end_is_seen(
    tmp_path: Path, end: Ended | None, expected: Expected, outcome: str, problem: str
) -> None:
    said = checks.unclear_end(end, expected, finished(tmp_path, outcome))
    assert problem in said
    assert bool(said) == bool(problem)


def test_a_signal_that_was_lost_is_seen() -> None:
    assert checks.lost_signal(ended(0), steps_done=1) == "the signal after step 1 was lost"
    assert checks.lost_signal(ended(0), steps_done=2) == ""
    assert checks.lost_signal(ended(130), steps_done=1) == ""


def test_a_run_that_ended_and_says_that_it_runs_is_seen(tmp_path: Path) -> None:
    assert checks.still_running(finished(tmp_path), ENDS) == ""
    assert checks.still_running(finished(tmp_path, "running"), ENDS)
    assert checks.still_running(finished(tmp_path, "running"), KILLED) == ""


def test_an_orphan_is_seen() -> None:
    mark = f"test of orphans {os.getpid()}"
    env = {**os.environ, MARK: mark}
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(command, env=env) as process:
        assert eventually(lambda: marked(mark))  # not before its program is loaded
        assert str(process.pid) in checks.orphans(mark, seconds=0.5)
        process.kill()
    assert checks.orphans(mark, seconds=0.5) == ""


def test_a_file_in_the_temporary_folder_is_seen(tmp_path: Path) -> None:
    assert left_files(tmp_path, NAMED) == ""
    (tmp_path / "torchinductor_me").mkdir()
    assert left_files(tmp_path, NAMED) == ""
    (tmp_path / "ckpt.lock").touch()
    assert "ckpt.lock" in left_files(tmp_path, NAMED)


def test_lost_and_doubled_steps_and_episodes_are_seen(tmp_path: Path) -> None:
    assert checks.wrong_counts(finished(tmp_path)) == ""
    for name, problem in (("metrics.jsonl", "steps"), ("episodes.jsonl", "episodes")):
        path = finished(tmp_path) / name
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[1:]))
        assert problem in checks.wrong_counts(tmp_path)
        path.write_text("".join([*lines, lines[-1]]))
        assert problem in checks.wrong_counts(tmp_path)
        finished(tmp_path)


def test_weights_of_before_are_seen(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", [{"step": 1, "policy/logprob_diff_max": 0.2}])
    assert "differ by 0.2" in checks.disagreement(tmp_path)


def test_the_table_counts_what_held() -> None:
    rounds = [
        Round(
            number=number,
            backbone="local",
            fault=kind,
            stage="start",
            delay_s=0,
            commit="c0ffee",
            duration_s=9,
            problems=wrong,
        )
        for number, (kind, wrong) in enumerate([("SIGKILL", []), ("SIGKILL", ["x"])])
    ]
    assert "| SIGKILL | 2 | 1 |" in table(rounds)
    assert "| all | 2 | 1 |" in table(rounds)


def test_each_kind_is_there_for_some_backbone() -> None:
    assert all(fault.backbones for fault in FAULTS.values())
