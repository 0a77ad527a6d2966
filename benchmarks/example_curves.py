"""Draw the curves of the examples from what `benchmarks/examples.py --json` wrote.

    python benchmarks/examples.py --json > results.json
    python benchmarks/example_curves.py results.json

Each example gets `tutorial/example_NAME/curve.svg`, and its table is printed as Markdown. The
results of this page's runs are in `docs/benchmarks/examples.json`, the default.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ajet.monitor.reward_curve import STYLE
from benchmarks.examples import EXAMPLES, ROOT

RESULTS = ROOT / "docs" / "benchmarks" / "examples.json"
FOLDERS = {"math": "example_math_agent"}
"""Example -> its folder, where that is not `example_NAME`."""
COLOURS = ("#1f6fb4", "#2a8a4a", "#b4451f")
"""One per seed."""

Results = Sequence[dict[str, Any]]
"""What `benchmarks/examples.py` says about the seeds of one example."""


def by_example(results: Results) -> dict[str, list[dict[str, Any]]]:
    """The results on the local backbone, example -> one per seed."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        if result.get("backbone", "local") == "local":
            groups[result["example"]].append(result)
    return {name: sorted(group, key=lambda r: r["seed"]) for name, group in groups.items()}


def folder_of(name: str) -> Path:
    """The folder of an example."""
    return ROOT / "tutorial" / FOLDERS.get(name, f"example_{name}")


def draw(results: Results, path: Path) -> None:
    """Sampled and greedy scores at every evaluation, a line per seed."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**STYLE, "svg.fonttype": "none", "font.size": 9, "axes.titlesize": 10}):
        figure = Figure(figsize=(7.2, 2.7), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for result, colour in zip(results, COLOURS, strict=False):
            _line(left, result["sampled"], f"seed {result['seed']}", colour)
            _line(right, result["greedy"], f"seed {result['seed']}", colour)
        left.set_ylim(0, 1)
        is_success = EXAMPLES[results[0]["example"]].metric == "success_rate"
        left.set_title(f"Sampled: {'success' if is_success else 'share of the largest reward'}")
        right.set_title("Greedy: success")
        for axes in (left, right):
            axes.set_xlabel("step")
            axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        right.legend(loc="lower right")
        figure.savefig(path, format="svg", metadata={"Date": None})


def _line(axes: Any, scores: dict[str, float], label: str, colour: str) -> None:
    steps = [int(step) for step in scores]
    axes.plot(steps, list(scores.values()), "o-", label=label, color=colour, markersize=4)
    axes.set_xticks(steps)


def table(results: Results) -> str:
    """The results as a Markdown table."""
    steps = list(results[0]["sampled"])
    watched = [name.removeprefix("workflow/").replace("_", " ") for name in results[0]["watched"]]
    head = ["seed", "start", *(f"step {step}" for step in steps[1:])]
    head += ["greedy", *watched, "minutes", "load"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for result in results:
        cells = [str(result["seed"]), *(f"{score:.2f}" for score in result["sampled"].values())]
        cells += [" → ".join(f"{score:.2f}" for score in result["greedy"].values())]
        cells += [" → ".join(f"{v:.2f}" for v in values) for values in result["watched"].values()]
        cells += [f"{result['minutes']:.1f}", f"{result['load_average']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Draw the curves and print the tables."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    args = parser.parse_args()
    for name, results in by_example(json.loads(args.results.read_text("utf-8"))).items():
        draw(results, folder_of(name) / "curve.svg")
        print(f"## {name}\n\n{table(results)}\n")


if __name__ == "__main__":
    main()
