"""The page and the curves of what `benchmarks/track.py` recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ajet.monitor.reward_curve import STYLE

if TYPE_CHECKING:
    from benchmarks.track import Record, Result

Runs = dict[str, list["Result"]]
"""Revision -> its runs, one per seed, in the order of the commits."""

CURVES = (
    ("success_end", "Success after the last step", "#1f6fb4"),
    ("cost", "CPU seconds of a step", "#2a8a4a"),
    ("logprob_diff_max", "Logprobs: engine and trainer", "#b4451f"),
)
FIDELITY = 1e-7, 1e-2
"""Axis of the logprob differences: from rounding of float32 to ten times what ends a run. A 0 is
drawn at its lower end."""

HEAD = """# Benchmarks

`benchmarks/track.py` trains examples and records one JSON file per revision and machine in
[`tracked/`](tracked/README.md). This page is made of them: it shows for each example, backbone and
machine how much is learned, what a step costs, and how far the logprobs of engine and trainer are
apart.

```bash
python benchmarks/track.py                                    # the demo with seed 0
python benchmarks/track.py --only demo countdown --seeds 0 1 2 --backbones local verl
python benchmarks/track.py --record saved_experiments/math_agent_cpu
```

Only whole results are recorded: a run of a commit without changes, which one process began and
finished, with each step and an evaluation after the last one. Continuous integration records the
first three steps of the demo. The cost is CPU time of the run's own process, where the backbone
measures it, and the clock elsewhere. Both depend on what else the machine does: compare revisions
that were measured alike.
"""
TRACKED = """# Tracked results

One file per revision and machine, written by `benchmarks/track.py`. The name begins with the time
of the commit. `success_...` are shares of the validation tasks that are solved (or of the largest
reward, for an example that has no success), sampled or greedy; `minutes` is the whole run by the
clock, `step_s` and `cpu_step_s` are means per step, and `logprob_diff_max` is the largest
difference of a logprob between engine and trainer. Null means that the run did not measure it.
"""


def cost(result: Result) -> float:
    """Seconds of a step: of the CPU where they were measured, else by the clock."""
    return result.step_s if result.cpu_step_s is None else result.cpu_step_s


def write_page(records: Sequence[Record], folder: Path) -> Path:
    """Write `index.md` and its curves.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups = _groups(records)
    parts = [HEAD]
    for number, (title, runs) in enumerate(groups.items(), 1):
        curve = folder / f"tracked_{number}.svg"
        draw(runs, curve)
        parts += [f"## {title}\n", f"![Curves over revisions]({curve.name})\n", _table(runs)]
    for old in folder.glob("tracked_*.svg"):
        if int(old.stem.partition("_")[2]) > len(groups):
            old.unlink()
    others = sorted(path for path in folder.glob("*.md") if path.name != "index.md")
    if others:
        links = [f"- [{_heading(path)}]({path.name})" for path in others]
        parts += ["## Other measurements\n", "\n".join(links) + "\n"]
    (folder / "tracked").mkdir(exist_ok=True)
    (folder / "tracked" / "README.md").write_text(TRACKED, encoding="utf-8")
    page = folder / "index.md"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


def _groups(records: Sequence[Record]) -> dict[str, Runs]:
    """What can be compared over revisions, by its title."""
    groups: dict[str, Runs] = defaultdict(lambda: defaultdict(list))
    for record in records:
        for result in record.results:
            title = f"{result.example}, {result.backbone}, {result.steps} steps, {record.machine}"
            groups[title][record.revision].append(result)
    return dict(sorted(groups.items()))


def _heading(page: Path) -> str:
    return page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def _table(runs: Runs) -> str:
    lines = ["| revision | seeds | success | greedy | CPU s per step | minutes | logprobs |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for revision, results in reversed(runs.items()):
        cells = [
            f"`{revision[:8]}`",
            ", ".join(str(result.seed) for result in results),
            _range([result.success_end for result in results], "{:.2f}"),
            _range([result.greedy_end for result in results], "{:.2f}"),
            _range([result.cpu_step_s for result in results], "{:.2f}"),
            _range([result.minutes for result in results], "{:.1f}"),
            f"{max(result.logprob_diff_max for result in results):.1e}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _range(values: Sequence[float | None], form: str) -> str:
    """Least and largest value of the seeds; a dash if one was not measured."""
    known = [form.format(value) for value in sorted(v for v in values if v is not None)]
    if len(known) < len(values):
        return "–"
    return known[0] if known[0] == known[-1] else f"{known[0]} to {known[-1]}"


def draw(runs: Runs, path: Path) -> None:
    """Success, cost and fidelity over revisions: a dot for each seed, a line through the means."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**STYLE, "svg.fonttype": "none", "font.size": 9, "axes.titlesize": 10}):
        figure = Figure(figsize=(9, 2.6), layout="constrained")
        for axes, (name, title, colour) in zip(figure.subplots(1, 3), CURVES, strict=True):
            _draw_curve(axes, runs, name, colour)
            axes.set_title(title)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw_curve(axes: Any, runs: Runs, name: str, colour: str) -> None:
    values = [[_drawn(result, name) for result in results] for results in runs.values()]
    places = range(len(values))
    axes.plot(places, [sum(seeds) / len(seeds) for seeds in values], color=colour, linewidth=2)
    for place, seeds in zip(places, values, strict=True):
        axes.plot([place] * len(seeds), seeds, "o", color=colour, markersize=4)
    axes.set_xticks(places, [revision[:8] for revision in runs], rotation=45, ha="right")
    axes.margins(x=0.1)
    if name == "success_end":
        axes.set_ylim(-0.04, 1.04)
    elif name == "logprob_diff_max":
        axes.set_yscale("log")
        axes.set_ylim(*FIDELITY)  # the same everywhere, so that rounding does not look like a fault
    else:
        axes.set_ylim(bottom=0)


def _drawn(result: Result, name: str) -> float:
    if name == "logprob_diff_max":
        return max(result.logprob_diff_max, FIDELITY[0])
    return cost(result) if name == "cost" else float(getattr(result, name))
