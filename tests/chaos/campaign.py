"""A campaign of faults against small runs: `make chaos BACKBONE=local ROUNDS=50 SEED=0`.

    python -m tests.chaos.campaign --backbone local --rounds 50 --seed 0 --json
    python -m tests.chaos.campaign --rounds 50 --results rounds.jsonl --minutes 10

Each round starts a small run and lets one thing happen to it at a random moment: a random time
after its start, after its record exists, or after one of its steps. Then it is checked: it ended
clearly or continued within a bound; no process of it is left; nothing is left in the temporary
folder; resumed, it is the undisturbed run (bit for bit with `local`), with each step and each
episode once. The seed and the number of a round choose its kind and its moment, so that a campaign
can be run in parts (`--results`), and a round again by its number (`--first 7 --rounds 8`).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.chaos import checks
from tests.chaos.faults import DISK_MB, FAULTS, Expected, Fault
from tests.chaos.runs import STEPS, Place, can_mount
from tests.end_to_end.command import ROOT
from tests.end_to_end.run_folders import lines_of
from tests.end_to_end.temporary import NAMED, NAMED_IF_KILLED, left_files

MOST_RESUMES = 3


def _has_steps(number: int) -> Callable[[Path], bool]:
    def has(folder: Path) -> bool:
        path = folder / "metrics.jsonl"
        return path.exists() and path.read_bytes().count(b"\n") > number  # one line is step 0

    return has


STAGES: dict[str, Callable[[Path], bool]] = {
    "start": lambda folder: True,
    "record": lambda folder: (folder / "run.json").exists(),
    **{f"step {number}": _has_steps(number) for number in range(STEPS + 1)},
}
"""Moments of a run that can be seen from outside: its record is there, a step is done."""


@dataclass(slots=True, kw_only=True)
class Round:
    """What one round showed."""

    number: int
    backbone: str
    fault: str
    stage: str
    """What the moment came after."""
    delay_s: float
    commit: str
    """The commit that was checked out; "+" after it means that files were changed."""
    duration_s: float
    """What the undisturbed run took."""
    step_s: float = 0.0
    """What one of its steps took; 0 in results that were written without it."""
    code: int | None = None
    """The exit code after the fault."""
    num_resumes: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    output: str = ""
    """The end of what the run wrote after the fault, where there is a problem."""


class Campaign:
    """Rounds on one backbone; the undisturbed run is done first.

    Args:
        backbone: of the runs.
        seed: of kinds and moments.
        known: durations of the undisturbed run and of its steps in an earlier part of the campaign;
            None: it is done now, as it is for each part whose rounds are compared with it.
    """

    def __init__(self, backbone: str, seed: int, known: tuple[float, float] | None = None) -> None:
        self.backbone = backbone
        self.seed = seed
        self.commit = current_commit()
        self.kinds = [
            name
            for name, fault in FAULTS.items()
            if backbone in fault.backbones and (not fault.needs_disk or can_mount())
        ]
        self.reference = Place(backbone)
        if known is not None and not self.reference.settings.is_exact:
            self.duration_s, self.step_s = known
            return
        run = self.reference.start()
        ended = run.wait(self.reference.settings.bound_s)
        if ended is None or ended.code != 0:
            words = "it hangs" if ended is None else checks.last_words(ended)
            self.reference.remove()
            raise SystemExit(f"the undisturbed run failed: {words}")
        self.duration_s = time.monotonic() - run.started_s
        self.step_s = _seconds_per_step(self.reference.folder)

    def schedule(self, num_rounds: int) -> list[str]:
        """Kinds in random order; each comes again only after all others have come."""
        rng = random.Random(f"{self.backbone} {self.seed}")
        kinds: list[str] = []
        while len(kinds) < num_rounds:
            kinds += rng.sample(self.kinds, len(self.kinds))
        return kinds[:num_rounds]

    def round(self, number: int, kind: str) -> Round:
        """One round."""
        fault = FAULTS[kind]
        rng = random.Random(f"{self.backbone} {self.seed} {number}")
        stage, delay_s = self._moment(rng)
        result = Round(
            number=number,
            backbone=self.backbone,
            fault=kind,
            stage=stage,
            delay_s=delay_s,
            commit=self.commit,
            duration_s=round(self.duration_s, 1),
            step_s=round(self.step_s, 2),
        )
        begun = time.monotonic()
        place = Place(self.backbone, DISK_MB if fault.needs_disk else None)
        try:
            _disturb(place, fault, result, rng)
            _resume(place, result)
            if not result.problems:
                result.problems += filter(None, self._compare(place))
        finally:
            place.remove()
        result.seconds = round(time.monotonic() - begun, 1)
        return result

    def _moment(self, rng: random.Random) -> tuple[str, float]:
        """A stage, and how long after it: up to what a step takes, or the start for the first two.

        Starting vLLM and Ray takes many times as long as a step.
        """
        stage = rng.choice(list(STAGES))
        longest = self.step_s if stage.startswith("step") else self.duration_s / 2
        return stage, round(rng.uniform(0, longest), 2)

    def _compare(self, place: Place) -> list[str]:
        wrong = [checks.wrong_counts(place.folder)]
        if place.settings.is_exact:
            wrong.append(checks.another_run(place.folder, self.reference.folder))
        else:
            wrong.append(checks.disagreement(place.folder))
        return wrong

    def close(self) -> None:
        """Delete the undisturbed run."""
        self.reference.remove()


def _seconds_per_step(folder: Path) -> float:
    times = [line["time"] for line in lines_of(folder / "metrics.jsonl")]
    return float(times[-1] - times[0]) / STEPS


def _steps_done(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0  # without step 0


def current_commit() -> str:
    """The commit of the tree that is tested."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return described.stdout.strip()


def _disturb(place: Place, fault: Fault, result: Round, rng: random.Random) -> None:
    run = place.start(*fault.args)
    is_reached = STAGES[result.stage]
    while not (is_reached(place.folder) or run.has_ended()):
        time.sleep(0.01)
    due_s = time.monotonic() + result.delay_s
    while time.monotonic() < due_s and not run.has_ended():
        time.sleep(0.01)
    steps_done = STEPS
    if not run.has_ended():
        steps_done = _steps_done(place.folder)
        try:
            fault.act(place, run, rng)
        except AssertionError as error:
            result.problems.append(str(error))
    ended = run.wait(place.settings.bound_s)
    result.code = ended.code if ended else None
    allowed = (*NAMED, *NAMED_IF_KILLED) if fault.expected is Expected.KILLED else NAMED
    result.problems += filter(
        None,
        [
            checks.unclear_end(ended, fault.expected, place.folder),
            checks.lost_signal(ended, steps_done) if fault.is_interrupt else "",
            checks.still_running(place.folder, fault.expected),
            checks.orphans(place.mark),
            left_files(place.temporary, allowed),
        ],
    )
    if result.problems and ended:
        result.output = ended.stderr[-2000:]
    if fault.repair:
        fault.repair(place)


def _resume(place: Place, result: Round) -> None:
    """Resume until the run is finished, and do what a refusal says.

    The resumed run also removes what the killed one left in the temporary folder.
    """
    while not result.problems and checks.outcome_of(place.folder) != "finished":
        if result.num_resumes == MOST_RESUMES:
            result.problems.append(f"not finished after {MOST_RESUMES} times --resume")
            return
        result.num_resumes += 1
        has_begun = (place.folder / "run.json").is_file()
        run = place.start(*(["--resume"] if has_begun else []))
        ended = run.wait(place.settings.bound_s)
        if ended is not None and ended.code == 1 and _follow_advice(place, ended.stderr):
            continue
        result.problems += filter(
            None,
            [
                checks.unclear_end(ended, Expected.CONTINUES, place.folder),
                checks.orphans(place.mark),
                left_files(place.temporary, NAMED),
            ],
        )


def _follow_advice(place: Place, text: str) -> bool:
    """Delete the damaged checkpoint that a refusal names; whether there was one."""
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    for error in errors:
        if found := re.search(r"checkpoints/(step_\d+)", error):
            damaged = place.folder / "checkpoints" / found[1]
            if damaged.is_dir():
                shutil.rmtree(damaged)
                return True
    return False


def table(rounds: Sequence[Round]) -> str:
    """Markdown: for each kind, how many rounds and how many held."""
    lines = ["| what happens | rounds | held | expected |", "|---|---|---|---|"]
    for kind in FAULTS:
        of_kind = [each for each in rounds if each.fault == kind]
        if of_kind:
            held = sum(not each.problems for each in of_kind)
            expected = FAULTS[kind].expected.value
            lines.append(f"| {kind} | {len(of_kind)} | {held} | {expected} |")
    held = sum(not each.problems for each in rounds)
    lines.append(f"| all | {len(rounds)} | {held} | |")
    return "\n".join(lines)


def read_results(path: Path | None) -> dict[int, Round]:
    """The newest result of each round that an earlier part of the campaign has written."""
    if path is None or not path.exists():
        return {}
    rounds = [Round(**json.loads(line)) for line in path.read_text().splitlines()]
    return {each.number: each for each in rounds}


def run_rounds(options: argparse.Namespace, done: dict[int, Round]) -> None:
    """Run the rounds that are not done, until all are or the minutes are over."""
    known = [(each.duration_s, each.step_s) for each in done.values() if each.step_s]
    campaign = Campaign(options.backbone, options.seed, known[0] if known else None)
    begun = time.monotonic()
    try:
        for number, kind in enumerate(campaign.schedule(options.rounds)):
            if number < options.first or number in done:
                continue
            if (time.monotonic() - begun) / 60 > options.minutes:
                return
            done[number] = campaign.round(number, options.only or kind)
            line = json.dumps(asdict(done[number]))
            print(line, file=sys.stderr, flush=True)
            if options.results:
                with options.results.open("a") as file:
                    file.write(line + "\n")
    finally:
        campaign.close()


def main() -> None:
    """Run the campaign and print its table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", choices=["local", "vllm", "verl", "trinity"], default="local")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="number of the first round to run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(FAULTS), help="this kind in every round")
    parser.add_argument("--results", type=Path, help="JSONL of the rounds; those in it are done")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no round later")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    done = read_results(options.results)
    if any(number not in done for number in range(options.first, options.rounds)):
        run_rounds(options, done)
    rounds = list(done.values())
    if options.json:
        print(json.dumps([asdict(each) for each in rounds], indent=2))
    else:
        print(table(rounds))
    sys.exit(any(each.problems for each in rounds))


if __name__ == "__main__":
    main()
