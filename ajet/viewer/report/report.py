"""One self-contained HTML file about a run: no script, nothing loaded from anywhere."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ajet.errors import ConfigError
from ajet.monitor.durable_files import written_aside
from ajet.monitor.metric_table import number, percent
from ajet.viewer.report.examples import example_sections
from ajet.viewer.report.html_text import Html, join, tag
from ajet.viewer.report.style import STYLE
from ajet.viewer.report.svg_chart import Curve, svg_chart
from ajet.viewer.run_view import RunView, is_run

INDEX_WAIT_S = 600.0
SHARE = "share"
LARGEST = 1e100
"""Largest absolute value that a chart shows."""
CHARTS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("Reward", ("reward/mean",), ""),
    (
        "Success",
        ("episode/success_rate", "eval/success_rate", "eval/greedy_success_rate"),
        SHARE,
    ),
    ("Loss", ("policy/loss",), ""),
    ("KL to the reference", ("policy/kl",), ""),
    ("Entropy", ("policy/entropy",), ""),
    ("Logprob difference, trainer to engine", ("policy/logprob_diff_max",), ""),
    ("Gradient norm", ("policy/grad_norm",), ""),
    ("Merge ratio", ("tokens/merge_ratio",), ""),
    ("Staleness, versions", ("staleness/mean", "staleness/max"), ""),
    ("Groups without gradient", ("group/zero_variance",), SHARE),
    ("Time of a step, seconds", ("time/rollout_s", "time/train_s", "time/eval_s"), ""),
    ("Failed episodes", ("episode/failed",), ""),
)
RESULTS = (
    ("reward/mean", "training reward", number),
    ("episode/success_rate", "training success", percent),
    ("eval/success_rate", "validation success, sampled", percent),
    ("eval/greedy_success_rate", "validation success, greedy", percent),
    ("policy/entropy", "entropy", number),
)


def write_report(run_folder: Path, out: Path) -> None:
    """Write the report of a run; the file is whole or not there.

    Raises:
        ConfigError: the folder is no run's, or the file cannot be written.
    """
    folder = run_folder.expanduser().resolve()
    if not is_run(folder):
        raise ConfigError(
            f"{run_folder} is no run's folder; expected one with config.yaml or metrics.jsonl"
        )
    page = report_page(RunView(folder))
    try:
        with written_aside(out) as aside:
            aside.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}; give another -o") from error


def report_page(view: RunView) -> str:
    """The whole page."""
    detail, records = view.detail(INDEX_WAIT_S), view.metrics()
    body = join(
        [
            _head(detail, records),
            _missing(detail["missing"]),
            tag("h2", "Curves"),
            _charts(records) or tag("p", "No metrics were recorded."),
            tag("h2", "Examples"),
            *example_sections(view),
            tag("h2", "Failures by cause"),
            _failures(detail["causes"]),
            tag("h2", "How to repeat it"),
            *_how_to_repeat(detail),
            tag("h2", "Settings"),
            _settings(detail["settings"]),
        ]
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{tag('title', view.folder.name)}<style>{STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _head(detail: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Html:
    settings, processes = detail["settings"], detail["processes"]
    facts = {
        "State": detail["status"],
        "Steps": max((record["step"] for record in records), default="none"),
        "Backbone": settings.get("ajet.backbone", "not known"),
        "Model": settings.get("ajet.model.path", "not known"),
        "Started": processes[0]["started_at"] if processes else "not known",
        "Ended": (processes[-1]["ended_at"] or "not yet") if processes else "not known",
        "Report": datetime.now(UTC).isoformat(timespec="minutes"),
    }
    rows = []
    for name, label, show in RESULTS:
        points = _curve(records, name).points
        if points:
            (first, start), (last, end) = points[0], points[-1]
            cells = (show(start), show(end), f"{first} to {last}")
            rows.append(
                tag(
                    "tr",
                    tag("th", label, scope="row"),
                    *[tag("td", c, class_="num") for c in cells],
                )
            )
    titles = [tag("th", title, scope="col", class_="num") for title in ("start", "end", "steps")]
    table = tag("table", tag("tr", tag("td"), *titles), *rows) if rows else Html()
    pairs = [tag("div", tag("dt", key), tag("dd", value)) for key, value in facts.items()]
    return join([tag("h1", detail["name"]), tag("dl", *pairs, class_="facts"), table])


def _missing(missing: Sequence[str]) -> Html:
    if not missing:
        return Html()
    items = [tag("li", text) for text in missing]
    return tag("div", "Not everything could be shown:", tag("ul", *items), class_="notice")


def _charts(records: Sequence[Mapping[str, Any]]) -> Html:
    figures = []
    for title, names, unit in CHARTS:
        curves = [curve for name in names if (curve := _curve(records, name)).points]
        if curves:
            figures.append(svg_chart(title, curves, is_share=unit == SHARE))
    return tag("div", *figures, class_="charts") if figures else Html()


def _curve(records: Sequence[Mapping[str, Any]], name: str) -> Curve:
    found = {r["step"]: r[name] for r in records if isinstance(r.get(name), int | float)}
    # A larger number is of a damaged file, and no chart has room for it.
    drawn = {step: float(value) for step, value in found.items() if abs(value) < LARGEST}
    gaps = sorted(found.keys() - drawn.keys())
    return Curve(label=name, points=sorted(drawn.items()), gaps=gaps)


def _failures(causes: Sequence[Mapping[str, Any]]) -> Html:
    if not causes:
        return tag("p", "No episode failed.")
    rows = [
        tag(
            "tr",
            tag("td", row["outcome"].replace("_", " ")),
            tag("td", row["cause"] or ""),
            tag("td", row["count"], class_="num"),
        )
        for row in causes
    ]
    titles = [tag("th", title, scope="col") for title in ("kind", "cause", "episodes")]
    return tag("table", tag("tr", *titles), *rows)


def _how_to_repeat(detail: Mapping[str, Any]) -> list[Html]:
    if not detail["processes"]:
        return [tag("p", "run.json does not say how the run was started.")]
    process = detail["processes"][0]
    given = process["git_revision"]
    revision = given if isinstance(given, str) else ""  # in a damaged file, anything
    lines = [f"cd {shlex.quote(str(process['directory']))}"] if process["directory"] else []
    if revision:
        lines.append(f"git checkout {revision.removesuffix('-dirty')}")
    lines.append(shlex.join(process["command"]))
    versions = ", ".join(f"{name} {version}" for name, version in process["versions"].items())
    parts = [
        tag("pre", "\n".join(lines)),
        tag("p", f"Python {process['python']}, {process['platform']}. {versions}"),
    ]
    if revision and revision.endswith("-dirty"):
        parts.append(tag("p", "The working tree had changes that are in no revision."))
    if len(detail["processes"]) > 1:
        times = len(detail["processes"]) - 1
        parts.append(tag("p", f"It was resumed {times} times."))
    parts.append(
        tag(
            "p",
            "The settings below, saved as YAML, are what the command resolved to; seed: ",
            str(detail["settings"].get("ajet.trainer_common.seed", "not known")),
        )
    )
    return parts


def _settings(settings: Mapping[str, Any]) -> Html:
    rows = [
        tag(
            "tr",
            tag("th", tag("code", key), scope="row"),
            tag("td", value if isinstance(value, str) else json.dumps(value)),
        )
        for key, value in settings.items()
    ]
    if not rows:
        return tag("p", "config.yaml is not there.")
    return tag("details", tag("summary", f"All settings ({len(rows)})"), tag("table", *rows))
