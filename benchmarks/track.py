"""Train examples, and record success, cost and fidelity of this revision on this machine.

    python benchmarks/track.py                                     the demo, local, seed 0
    python benchmarks/track.py --only demo countdown --backbones local verl --seeds 0 1 2
    python benchmarks/track.py --record saved_experiments/math_agent_cpu      a run that is there
    python benchmarks/track.py --page                              write only the page again

Results are one JSON file per revision and machine in `docs/benchmarks/tracked/`. The page
`docs/benchmarks/index.md` and its curves are made of all of them. A result is written only if it is
whole: a finished run of a commit without changes, with every step and an evaluation of the last.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for those who run this file

from benchmarks.examples import EXAMPLES, ROOT, Example, has_model

DOCS = ROOT / "docs" / "benchmarks"
DEMO = Example(conf="tutorial/example_math_agent/math_agent_cpu.yaml")
TRACKED = {"demo": DEMO, **EXAMPLES}

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Nonsense(SystemExit):
    """A result that cannot be recorded; the message says why."""

    def __init__(self, message: str) -> None:
        super().__init__(f"track: {message}")


class Strict(BaseModel):
    """Unknown fields and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Result(Strict):
    """One training run."""

    example: Literal["demo", *EXAMPLES]  # type: ignore[valid-type]
    backbone: Literal["local", "verl", "trinity"]
    seed: int = Field(ge=0)
    steps: int = Field(ge=1)
    success_start: Share | None
    """Sampled success before the first step; None if it was not evaluated."""
    success_end: Share
    """Sampled success after the last step."""
    greedy_end: Share | None
    minutes: Positive
    """The whole run by the clock, evaluations included."""
    step_s: Positive
    """Mean of a step by the clock."""
    cpu_step_s: Positive | None
    """The same in CPU seconds of the run's own process, which depend less on other load."""
    logprob_diff_max: NotNegative
    """Largest difference of a logprob between engine and trainer, over all steps."""

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What is measured again in other revisions."""
        return self.example, self.backbone, self.steps, self.seed


class Record(Strict):
    """All results of one revision on one machine: one file."""

    format: Literal[1] = 1
    revision: str = Field(pattern="^[0-9a-f]{40}$")
    committed_at: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
    machine: str = Field(pattern="^[a-z0-9]+(-[a-z0-9]+)*$")
    results: tuple[Result, ...] = Field(min_length=1)

    @property
    def file_name(self) -> str:
        """Sorted by name, files are in the order of the commits."""
        stamp = re.sub(r"\D", "", self.committed_at)
        return f"{stamp}_{self.revision[:8]}_{self.machine}.json"


def result_of_run(run: Path, name: str) -> tuple[str, Result]:
    """The revision that made a run, and its result.

    Raises:
        Nonsense: the run is not finished, not whole, or not that of a commit.
    """
    revision, minutes = _process(run)
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["ajet"]
    text = (run / "metrics.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    steps = [line for line in lines if "time/step_s" in line]
    if [line["step"] for line in steps] != list(range(1, len(steps) + 1)) or not steps:
        raise Nonsense(f"{run}: metrics.jsonl does not have each step once")
    example, key = TRACKED[name], f"eval/{TRACKED[name].metric}"
    scores = {line["step"]: line[key] / example.largest for line in lines if key in line}
    greedy = {line["step"]: line.get("eval/greedy_success_rate") for line in lines}
    try:
        return revision, Result(
            example=name,
            backbone=settings["backbone"],
            seed=settings["trainer_common"]["seed"],
            steps=len(steps),
            success_start=scores.get(0),
            success_end=scores.get(len(steps)),
            greedy_end=greedy[len(steps)],
            minutes=minutes,
            step_s=_mean(steps, "time/step_s"),
            cpu_step_s=_mean(steps, "cpu/step_s"),
            logprob_diff_max=_largest(steps, "policy/logprob_diff_max"),
        )
    except ValidationError as error:
        raise Nonsense(f"{run}: {_first(error)}") from None


def _process(run: Path) -> tuple[str, float]:
    """The revision and the minutes of the one process that made a run."""
    processes = json.loads((run / "run.json").read_text(encoding="utf-8"))["processes"]
    if len(processes) != 1 or processes[0]["outcome"] != "finished":
        raise Nonsense(f"{run}: expected a run that one process began and finished")
    process = processes[0]
    if process["host"] != platform.node():
        raise Nonsense(f"{run}: it was made on another machine; record it there")
    if not re.fullmatch("[0-9a-f]{40}", process["git_revision"] or ""):
        raise Nonsense(f"{run}: its code is no commit ({process['git_revision']}); commit first")
    began, ended = (datetime.fromisoformat(process[key]) for key in ("started_at", "ended_at"))
    return process["git_revision"], (ended - began).total_seconds() / 60


def _mean(steps: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [line[key] for line in steps if key in line]
    return sum(values) / len(values) if len(values) == len(steps) else None


def _largest(steps: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """None if no step has the metric. A NaN stays one, so that it is refused."""
    values = [line[key] for line in steps if key in line]
    return math.nan if any(math.isnan(value) for value in values) else max(values, default=None)


def add(result: Result, revision: str, folder: Path) -> Path:
    """Write a result into the file of its revision and this machine, in place of an older one.

    Raises:
        Nonsense: the file that is there is damaged, or the revision is unknown.
    """
    record = Record(
        revision=revision,
        committed_at=_committed_at(revision),
        machine=machine(),
        results=(result,),
    )
    path = folder / record.file_name
    if path.exists():
        others = [old for old in read(path).results if old.key != result.key]
        results = tuple(sorted([*others, result], key=lambda one: one.key))
        record = record.model_copy(update={"results": results})
    folder.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".partial-{os.getpid()}")
    aside.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    aside.rename(path)
    return path


def read(path: Path) -> Record:
    """A file of results, checked.

    Raises:
        Nonsense: it is damaged, or its name is that of another revision or machine.
    """
    try:
        record = Record.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise Nonsense(f"{path}: damaged: {_first(error)}") from None
    if record.file_name != path.name:
        raise Nonsense(f"{path}: its content belongs into {record.file_name}")
    if len({result.key for result in record.results}) < len(record.results):
        raise Nonsense(f"{path}: a result stands there twice")
    return record


def read_all(folder: Path) -> list[Record]:
    """All files of results, in the order of the commits."""
    return [read(path) for path in sorted(folder.glob("*.json"))]


def _first(error: ValidationError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return str(error)
    problem = error.errors(include_url=False)[0]
    place = ".".join(map(str, problem["loc"]))
    return f"{place}: got {problem['input']!r:.80}; {problem['msg']}"


def _committed_at(revision: str) -> str:
    command = ["git", "show", "--no-patch", "--format=%ct", revision]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Nonsense(f"{revision} is no commit of this repository")
    return datetime.fromtimestamp(int(done.stdout), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def machine() -> str:
    """This machine's processor and its number of cores."""
    model = platform.machine()
    if (cpu := Path("/proc/cpuinfo")).exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpu.read_text(), re.MULTILINE)
        model = found[1] if found else model
    words = re.findall("[a-z0-9]+", model.lower())
    return "-".join([*words, str(len(os.sched_getaffinity(0))), "cores"])


def train(name: str, backbone: str, seed: int, overrides: Iterable[str], out: Path) -> Path:
    """Run an example through the command line; returns the run's folder."""
    command = [sys.executable, "-m", "ajet.cli", "--conf", TRACKED[name].conf]
    command += [f"--backbone={backbone}", f"--exp-dir={out}", "ajet.experiment_name=run"]
    command += [f"trainer_common.seed={seed}", *overrides]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise Nonsense(f"{name}, {backbone}, seed {seed}: exit status {done.returncode}")
    return out / "run"


def main() -> None:
    """Train or read what is asked for, record it, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TRACKED, default=["demo"])
    parser.add_argument(
        "--backbones", nargs="+", choices=("local", "verl", "trinity"), default=["local"]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--record", type=Path, metavar="RUN", help="record this run; train nothing")
    parser.add_argument("--page", action="store_true", help="write only the page again")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the page")
    parser.add_argument("overrides", nargs="*", help="settings, such as data.train_batch_size=8")
    args = parser.parse_args()
    tracked = args.out / "tracked"
    if args.record:
        revision, result = result_of_run(args.record, args.only[0])
        print(add(result, revision, tracked))
    elif not args.page:
        for name in args.only:
            if name != "demo" and not has_model(name):
                raise Nonsense(f"{name}: there is no model; make tiny-models builds it")
            for backbone in args.backbones:
                for seed in args.seeds:
                    with tempfile.TemporaryDirectory() as out:
                        run = train(name, backbone, seed, args.overrides, Path(out))
                        revision, result = result_of_run(run, name)
                    print(add(result, revision, tracked))
    from benchmarks.track_page import write_page

    print(write_page(read_all(tracked), args.out))


if __name__ == "__main__":
    main()
