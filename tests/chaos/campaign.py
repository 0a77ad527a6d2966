"""A campaign of faults against small runs: `make chaos BACKBONE=local ROUNDS=50 SEED=0`.

    python -m tests.chaos.campaign --backbone local --rounds 50 --seed 0 --json

Each round starts a small run and lets one thing happen to it at a random moment: between its start
and the time that an undisturbed run needs. Then it is checked: it ended clearly or continued within
a bound; no process of it is left; nothing is left in the temporary folder; resumed, it is the
undisturbed run (bit for bit with `local`), with each step and each episode once. The seed chooses
kinds and moments; how far a run is at a moment depends on the machine.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from tests.chaos import checks
from tests.chaos.faults import DISK_MB, FAULTS, Expected, Fault
from tests.chaos.runs import Place, can_mount

MOST_RESUMES = 3


@dataclass(slots=True, kw_only=True)
class Round:
    """What one round showed."""

    number: int
    backbone: str
    fault: str
    moment: float
    """The share of an undisturbed run's duration."""
    at_step: int = 0
    """Steps that were finished then."""
    code: int | None = None
    """The exit code after the fault."""
    num_resumes: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class Campaign:
    """Rounds on one backbone; the undisturbed run is done first."""

    def __init__(self, backbone: str, seed: int) -> None:
        self.backbone = backbone
        self.rng = random.Random(f"{backbone} {seed}")
        self.kinds = [
            name
            for name, fault in FAULTS.items()
            if backbone in fault.backbones and (not fault.needs_disk or can_mount())
        ]
        self.reference = Place(backbone)
        run = self.reference.start()
        ended = run.wait(self.reference.settings.bound_s)
        if ended is None or ended.code != 0:
            words = "it hangs" if ended is None else checks.last_words(ended)
            self.reference.remove()
            raise SystemExit(f"the undisturbed run failed: {words}")
        self.duration_s = time.monotonic() - run.started_s

    def schedule(self, num_rounds: int) -> list[str]:
        """Kinds in random order; each comes again only after all others have come."""
        kinds: list[str] = []
        while len(kinds) < num_rounds:
            kinds += self.rng.sample(self.kinds, len(self.kinds))
        return kinds[:num_rounds]

    def round(self, number: int, kind: str) -> Round:
        """One round."""
        fault = FAULTS[kind]
        result = Round(
            number=number,
            backbone=self.backbone,
            fault=kind,
            moment=self._moment(),
        )
        begun = time.monotonic()
        place = Place(self.backbone, DISK_MB if fault.needs_disk else None)
        try:
            _disturb(place, fault, result, self.duration_s, self.rng)
            _resume(place, result)
            if not result.problems:
                result.problems += filter(None, self._compare(place))
        finally:
            place.remove()
        result.seconds = round(time.monotonic() - begun, 1)
        return result

    def _moment(self) -> float:
        """More than half of a small run is its start, so two of three moments are after it."""
        low, high = self.rng.choice([(0.05, 0.5), (0.5, 0.75), (0.75, 1.0)])
        return round(self.rng.uniform(low, high), 3)

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


def _disturb(
    place: Place, fault: Fault, result: Round, duration_s: float, rng: random.Random
) -> None:
    run = place.start(*fault.args)
    due_s = run.started_s + result.moment * duration_s
    while time.monotonic() < due_s and not run.has_ended():
        time.sleep(0.01)
    result.at_step = len(list((place.folder / "checkpoints").glob("step_*")))
    if not run.has_ended():
        try:
            fault.act(place, run, rng)
        except AssertionError as error:
            result.problems.append(str(error))
    ended = run.wait(place.settings.bound_s)
    result.code = ended.code if ended else None
    result.problems += filter(
        None,
        [
            checks.unclear_end(ended, fault.expected, place.folder),
            checks.still_running(place.folder, fault.expected),
            checks.orphans(place.mark),
            checks.left_files(place.temporary, place.settings.temporaries),
        ],
    )
    if fault.repair:
        fault.repair(place)


def _resume(place: Place, result: Round) -> None:
    """Resume until the run is finished, and do what a refusal says."""
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
                checks.left_files(place.temporary, place.settings.temporaries),
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


def main() -> None:
    """Run the campaign and print its table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", choices=["local", "vllm", "verl", "trinity"], default="local")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="number of the first round to run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(FAULTS), help="this kind in every round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    campaign = Campaign(options.backbone, options.seed)
    rounds = []
    try:
        kinds = campaign.schedule(options.rounds)
        for number, kind in list(enumerate(kinds))[options.first :]:
            rounds.append(campaign.round(number, options.only or kind))
            print(json.dumps(asdict(rounds[-1])), file=sys.stderr, flush=True)
    finally:
        campaign.close()
    if options.json:
        print(json.dumps([asdict(each) for each in rounds], indent=2))
    else:
        print(table(rounds))
    sys.exit(any(each.problems for each in rounds))


if __name__ == "__main__":
    main()
