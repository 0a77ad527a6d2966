"""Names that come from tasks and agents never become paths.

1. Task ids, agent names, tags and names of metrics that are paths, have zero bytes, control
   characters, half surrogate pairs or 300 characters: the run finishes, and no episode fails.
2. All that it writes is in its run folder, in files whose names do not depend on them.
3. `ajet show`, `ajet report` and `ajet replay` read the folder, and write nothing elsewhere.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.command import ajet, command
from tests.end_to_end.hostile_names import NAMES
from tests.end_to_end.run_folders import NAME, lines_of

PARTS = ("escaped", "CON", "byte", "gnirts", "xxx")
"""Parts of the names that no file of a run has."""


@pytest.mark.slow
def test_names_that_are_paths_are_only_names(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c"  # so that `../../..` would still be seen
    deep.mkdir(parents=True)
    tasks = deep / "tasks.jsonl"
    lines = [{"task_id": name, "main_query": f"Say {n}."} for n, name in enumerate(NAMES)]
    tasks.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ended = ajet(
        "--exp-dir",
        str(deep / "runs"),
        "rollout.user_workflow=tests/end_to_end/hostile_names.py->HostileNames",
        f"task_reader.jsonl_dataset_file.training.file_path={tasks}",
        f"data.train_batch_size={len(NAMES)}",
        "rollout.num_repeat=2",
        "rollout.max_response_length_in_one_turn=4",
        "trainer_common.total_training_steps=1",
        "trainer_common.test_freq=null",
        "trainer_common.val_before_train=false",
        "rollout.validation.num_tasks=2",
    )
    assert ended.code == 0, ended.stderr
    folder = deep / "runs" / NAME
    lines = lines_of(folder / "episodes.jsonl")
    episodes = [line for line in lines if line["phase"] == "train"]
    assert {episode["task_id"] for episode in episodes} == set(NAMES)
    assert [episode["cause"] for episode in episodes if episode["outcome"] != "ok"] == []

    report = deep / "report.html"
    for args in (
        ["show", str(folder), "--task", "../../escaped"],
        ["show", str(folder), "--agent", "/"],
        ["report", str(folder), "--out", str(report)],
        ["replay", str(folder), "--trust"],
    ):
        shown = command(*args)
        assert shown.code == 0, (args, shown.stderr)
        assert "\x1b[31m" not in shown.stdout

    outside = {path for path in tmp_path.rglob("*") if folder not in path.parents}
    assert outside == {
        tmp_path / "a",
        tmp_path / "a" / "b",
        deep,
        tasks,
        report,
        deep / "runs",
        folder,
    }
    inside = [str(path.relative_to(folder)) for path in folder.rglob("*")]
    assert [path for path in inside if any(part in path for part in PARTS)] == []
