"""What must hold after each round. Each check returns what is wrong, or an empty text."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from pathlib import Path

from tests.chaos.faults import Expected
from tests.chaos.runs import EPISODES_PER_STEP, STEPS, marked
from tests.end_to_end.command import Ended
from tests.end_to_end.run_folders import assert_same_run, lines_of

ORPHANS_S = 40.0
"""How long processes may take to end after the run: a supervisor has 15 s, and who stands in for
lost supervisors waits 20 s for them."""


def unclear_end(ended: Ended | None, expected: Expected, folder: Path) -> str:
    """Problems if the run hangs, ended in an unexpected way, or ended without a message."""
    if ended is None:
        return "it did not end within the bound"
    if expected is Expected.KILLED:
        return "" if ended.code in (-signal.SIGKILL, 0) else f"exit {ended.code}, expected SIGKILL"
    if ended.code < 0:
        return f"ended by signal {-ended.code}"
    if expected is Expected.CONTINUES and ended.code != 0:
        return f"exit {ended.code}, expected to continue: {last_words(ended)}"
    if "Traceback (most recent call last)" in ended.stderr:
        return f"exit {ended.code} with a traceback: {last_words(ended)}"
    if ended.code == 0:
        return "" if outcome_of(folder) == "finished" else f"exit 0, but {outcome_of(folder)}"
    if not any(word in ended.stderr for word in ("error: ", "interrupted", "Interrupted")):
        return f"exit {ended.code} without a sentence: {last_words(ended)}"
    return ""


def lost_signal(ended: Ended | None, steps_done: int) -> str:
    """A run that was to end early went on to its end.

    Args:
        steps_done: how many steps were done when it got the signal. In the last two the run may
            finish first.
    """
    is_lost = ended is not None and ended.code == 0 and steps_done < STEPS - 1
    return f"the signal after step {steps_done} was lost" if is_lost else ""


def still_running(folder: Path, expected: Expected) -> str:
    """A run that ended says so in `run.json`, unless it was killed."""
    if expected is Expected.KILLED or not (folder / "run.json").exists():
        return ""
    outcome = outcome_of(folder)
    return "run.json says that it is running" if outcome == "running" else ""


def orphans(mark: str, seconds: float = ORPHANS_S) -> str:
    """Processes that are left after the run."""
    deadline = time.monotonic() + seconds
    while left := marked(mark):
        if time.monotonic() > deadline:
            names = [f"{each.pid} {' '.join(each.cmdline())[:80]}" for each in left]
            return f"left running: {'; '.join(names)}"
        time.sleep(0.2)
    return ""


def wrong_counts(folder: Path) -> str:
    """Each step once in the metrics, and each of its episodes once in the records."""
    steps = Counter(
        line["step"] for line in lines_of(folder / "metrics.jsonl") if "reward/mean" in line
    )
    if steps != dict.fromkeys(range(1, STEPS + 1), 1):
        return f"steps in metrics.jsonl: {dict(steps)}"
    episodes = Counter(
        (line["step"], line["episode_id"])
        for line in lines_of(folder / "episodes.jsonl")
        if line["phase"] == "train"
    )
    if twice := [key for key, number in episodes.items() if number > 1]:
        return f"episodes recorded twice: {twice}"
    per_step = Counter(step for step, _ in episodes)
    if per_step != dict.fromkeys(range(1, STEPS + 1), EPISODES_PER_STEP):
        return f"episodes per step: {dict(per_step)}"
    return ""


def another_run(folder: Path, reference: Path) -> str:
    """What the resumed run computed and the uninterrupted one did not."""
    try:
        assert_same_run(folder, reference)
    except AssertionError as error:
        return f"not the uninterrupted run: {str(error)[:300]}"
    return ""


def disagreement(folder: Path) -> str:
    """Engine and trainer differ, so old weights sampled after a resume."""
    for line in lines_of(folder / "metrics.jsonl"):
        if line.get("policy/logprob_diff_max", 0.0) > 1e-3:
            return f"step {line['step']}: logprobs differ by {line['policy/logprob_diff_max']:g}"
    return ""


def outcome_of(folder: Path) -> str:
    """The outcome of the newest process in `run.json`."""
    try:
        outcome: str = json.loads((folder / "run.json").read_text())["processes"][-1]["outcome"]
    except (OSError, ValueError, LookupError) as error:
        return f"run.json: {error}"
    return outcome


def last_words(ended: Ended) -> str:
    """The end of what it wrote."""
    return " | ".join(ended.stderr.strip().splitlines()[-3:])[-400:]
