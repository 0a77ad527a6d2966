"""A folder that is not whole is shown as far as it goes, and what is missing is said."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest

from tests.viewer.run_folders import write_record

EPISODE = {"step": 2, "episode": "e-2-task-1-1"}


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("config.yaml", "settings cannot be shown"),
        ("run.json", "command, versions and outcome are not known"),
        ("metrics.jsonl", "no curves"),
        ("episodes.jsonl", "no list of episodes"),
        ("calls", "no conversations"),
        ("rollouts", "no samples"),
        ("tokenizer", "tokens are shown as ids"),
    ],
)
def test_each_missing_part_is_named_and_the_rest_is_shown(get, run, gone, said):
    path = run.folder / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    detail = get("run")
    assert len(detail["missing"]) == 1
    assert said in detail["missing"][0]
    assert gone in detail["missing"][0]
    get("runs")
    get("metrics")
    get("episodes")
    episode = get("episode", **EPISODE)
    assert bool(episode["calls"]) == (gone != "calls")
    assert bool(episode["samples"]) == (gone != "rollouts")
    if gone == "tokenizer":
        assert get("tokens", **EPISODE, sample=0, start=0)["texts"] is None


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "metrics.jsonl", "episodes.jsonl"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00garbage", b"{", b"null\n", b"[1]\n"])
def test_a_damaged_file_is_no_crash(get, run, name, content):
    (run.folder / name).write_bytes(content)
    get("runs")
    get("run")
    get("metrics")
    get("episodes")


@pytest.mark.parametrize("folder", ["calls", "rollouts"])
def test_a_damaged_step_is_named(get, run, folder):
    path = run.folder / folder / "step_000002.parquet"
    path.write_bytes(path.read_bytes()[:200])
    episode = get("episode", **EPISODE)
    assert any(f"{folder}/step_000002.parquet cannot be read" in t for t in episode["missing"])
    assert bool(episode["calls"]) != bool(episode["samples"])
    assert get("episodes", text="Forty-two", step=1)["total"] == 6


def test_a_newer_version_is_shown_as_far_as_it_is_known(get, run):
    path = run.folder / "calls" / "step_000002.parquet"
    table = pq.read_table(path).drop_columns(["task", "call_rewards"])
    table = table.replace_schema_metadata({b"ajet.calls": b"99"})
    pq.write_table(table, path)
    episode = get("episode", **EPISODE)
    assert "version 99" in episode["missing"][0]
    assert len(episode["calls"]) == 4
    assert episode["calls"][0]["reward"] is None


def test_a_killed_run_is_called_killed(get, run):
    write_record(run.folder, outcome="running")
    detail = get("run")
    assert detail["status"] == "killed"
    assert [process["outcome"] for process in detail["processes"]] == ["killed"]


def test_a_process_before_a_resumed_run_was_killed(get, run):
    write_record(run.folder, outcome="running")
    path = run.folder / "run.json"
    record = json.loads(path.read_text())
    record["processes"].append({**record["processes"][0], "outcome": "finished"})
    path.write_text(json.dumps(record))
    found = [process["outcome"] for process in get("run")["processes"]]
    assert found == ["killed", "finished"]


@pytest.mark.parametrize("name", ["metrics.jsonl", "episodes.jsonl"])
def test_a_line_that_was_cut_is_named_and_nothing_waits_for_its_end(get, run, name):
    path = run.folder / name
    path.write_bytes(path.read_bytes()[:-20])
    write_record(run.folder, outcome="running")
    detail = get("run")
    assert detail["missing"] == [f"{name} ends in the middle of a line, which is left out"]
    assert detail["index"]["done"] == detail["index"]["total"]


def test_a_line_that_is_being_written_is_not_called_cut(get, run, monkeypatch):
    monkeypatch.setattr("ajet.viewer.run_view.status_of", lambda processes: "running")
    path = run.folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert get("run")["missing"] == []


def test_an_unknown_outcome_is_shown_as_it_is(get, run):
    write_record(run.folder, outcome="failed: TrainingError: NaN")
    assert get("run")["status"] == "failed: TrainingError: NaN"


def test_an_empty_run_has_an_empty_page(get, run):
    for path in [*run.folder.iterdir()]:
        if path.name != "run.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert get("run")["steps"] == []
    assert get("metrics") == {"steps": [], "columns": {}}
    assert get("episodes")["total"] == 0
