"""Random damage to a run's folder: whatever value stands where another one should, the pages come.

Each example changes one value in one file, as another version or a half-written file might, and
asks for every page. An answer is a page or a refusal that says what is wrong, never a failure.
"""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ajet.errors import AjetError
from ajet.viewer.report.report import write_report
from tests.viewer.conftest import COOKIE, TOKEN, make_client
from tests.viewer.run_folders import RunWriter

ODD: list[Any] = [
    *(None, True, 0, -1, 10**30, -(10**400), 1e308, float("nan"), float("inf")),
    *("", "x", "\ud800", "../../etc/passwd", "NaN", "2026-13-45T99:00:00", "x" * 100_000),
    *([], [None], [[]], ["x", 1], {}, {"a": None}, {"": []}),
]
JSON_FILES = ("run.json", "metrics.jsonl", "episodes.jsonl")
PARQUET_FILES = ("calls/step_000002.parquet", "rollouts/step_000002.parquet")
EPISODE = {"step": 2, "episode": "e-2-task-1-1"}
PAGES: list[tuple[str, dict[str, Any]]] = [
    ("runs", {}),
    ("stamps", {}),
    ("run", {}),
    ("metrics", {}),
    ("episodes", {}),
    ("episodes", {"sort": "-reward", "text": "seven", "outcome": "success", "step": 2}),
    ("episode", EPISODE),
    ("tokens", {**EPISODE, "sample": 0, "start": 0}),
    ("text", {**EPISODE, "call": 0, "part": "response", "start": 0}),
    ("traceback", {"step": 2, "episode": "e-2-task-1-3"}),
]


def damaged(value: Any, rng: random.Random) -> Any:
    """The value with something odd in its place, or in that of one of its parts."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        if rng.random() < 0.2:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: damaged(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        place = rng.randrange(len(value))
        return [damaged(item, rng) if n == place else item for n, item in enumerate(value)]
    return rng.choice(ODD)


def damage_json(path: Path, rng: random.Random) -> None:
    if path.suffix == ".json":
        path.write_text(json.dumps(damaged(json.loads(path.read_text()), rng)))
        return
    lines = path.read_text().splitlines()
    place = rng.randrange(len(lines))
    lines[place] = json.dumps(damaged(json.loads(lines[place]), rng))
    path.write_text("\n".join(lines) + "\n")


def damage_parquet(path: Path, rng: random.Random) -> None:
    table = pq.read_table(path)
    name = rng.choice(table.column_names)
    odd: list[list[Any]] = [
        [None],
        ["x"],
        [-1],
        [10**12],
        [1.5],
        [[]],
        [[None]],
        [["x"]],
        [[-1, 9]],
    ]
    column = pa.array(rng.choice(odd) * len(table))
    place = table.column_names.index(name)
    table = (
        table.drop_columns([name]) if rng.random() < 0.2 else table.set_column(place, name, column)
    )
    pq.write_table(table, path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
def test_no_value_of_a_file_makes_a_page_fail(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(8):
        writer = RunWriter(tmp_path / str(number) / "demo")
        for step in (1, 2):
            writer.step(step)
        name = rng.choice([*JSON_FILES, *PARQUET_FILES])
        (damage_json if "json" in name else damage_parquet)(writer.folder / name, rng)
        client = make_client(writer.folder.parent)
        client.cookies.set(COOKIE, TOKEN)
        for page, parameters in PAGES:
            answer = client.get(f"/api/{page}", params={"run": "demo", **parameters})
            where = f"seed {seed}, folder {number}, {name}, {page}: {answer.text[:500]}"
            assert answer.status_code in (200, 400, 404), where
        with contextlib.suppress(AjetError):
            write_report(writer.folder, tmp_path / f"{number}.html")
