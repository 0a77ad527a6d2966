"""Each tracker with its real library: what it wrote is read back from its store.

1. Project, run name, run id, settings without secrets and all metrics with their steps arrive.
2. A resumed run continues the tracker's run, where the tracker can do that.
3. Several trackers work at once.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ajet.config.sections.root import RootConfig
from ajet.monitor import guarded_sinks
from ajet.monitor.guarded_sinks import GuardedSinks
from ajet.monitor.run_record import recorded, run_id_of
from tests.end_to_end.command import ROOT
from tests.end_to_end.temporary import NAMED_IF_KILLED, left_files
from tests.unit.config_files import MINIMAL, load

METRICS = {
    1: {"reward/mean": 0.25, "workflow/steps": 3.0, "eval/pass@2": 0.5},
    2: {"reward/mean": 0.5, "workflow/steps": 2.0},
}
SECRET = "sk-very-secret"
SETTINGS = f"\nmine:\n  api_key: {SECRET}\n  url: https://me:{SECRET}@example.org/x\n  size: 7\n"


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "SWANLAB_API_KEY", "SWANLAB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("SWANLAB_SAVE_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture(autouse=True)
def _no_sink_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, the libraries take longer than a run would wait, which it reports."""
    for name in ("WAIT_S", "OPEN_S", "CLOSE_S"):
        monkeypatch.setattr(guarded_sinks, name, 300.0)


def config_of(folder: Path, logger: str) -> RootConfig:
    overrides = (f"trainer_common.logger={logger}", "project_name=arithmetic")
    return load(folder, MINIMAL + SETTINGS, *overrides)


def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "first"
    folder.mkdir(parents=True)
    with recorded(folder, ["test"]):
        pass
    return folder


def track(config: RootConfig, folder: Path, steps: list[int], resumed: int | None = None) -> None:
    sinks = GuardedSinks(config, folder, resumed_step=resumed)
    for step in steps:
        sinks.write(step, METRICS[step])
    sinks.close()


def track_twice(tmp_path: Path, logger: str, caplog: Any) -> Path:
    """A run of one step, resumed for a second one."""
    config, folder = config_of(tmp_path, logger), run_folder(tmp_path)
    track(config, folder, [1])
    track(config, folder, [2], resumed=1)
    assert [r.message for r in caplog.records if r.name.startswith("ajet")] == []
    return folder


def assert_settings_arrived(shown: dict[str, Any]) -> None:
    assert SECRET not in json.dumps(shown)
    assert shown["ajet.project_name"] == "arithmetic"
    assert str(shown["mine.size"]) == "7"
    assert shown["mine.api_key"] == "(hidden)"
    assert shown["mine.url"] == "https://(hidden)@example.org/x"


def wandb_records(file: Path) -> Iterator[Any]:
    # SwanLab has a reader of these files, to take over runs; wandb's own is a Go program.
    from swanlab.converter.wb.wbdatastore import WBDataStoreReader
    from wandb.proto import wandb_internal_pb2

    with WBDataStoreReader() as reader:
        reader.open(file)
        while (data := reader.scan()) is not None:
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            yield record


def test_wandb_offline(tmp_path: Path, caplog: Any) -> None:
    folder = track_twice(tmp_path, "[{type: wandb, tags: [a, b]}]", caplog)
    files = sorted(tmp_path.glob("runs/trackers/wandb/offline-run-*/*.wandb"))
    assert files
    rows: dict[int, dict[str, float]] = {}
    for file in files:
        records = list(wandb_records(file))
        run = next(r.run for r in records if r.HasField("run"))
        assert (run.project, run.display_name, run.run_id) == (
            "arithmetic",
            "first",
            run_id_of(folder),
        )
        assert list(run.tags) == ["a", "b"]
        assert_settings_arrived(
            {i.key: json.loads(i.value_json) for i in run.config.update if i.key != "_wandb"}
        )
        for record in records:
            if record.HasField("history"):
                row = {
                    (i.key or i.nested_key[0]): json.loads(i.value_json)
                    for i in record.history.item
                }
                rows[row["step"]] = {name: row[name] for name in METRICS[row["step"]]}
    assert rows == METRICS


def test_mlflow_in_a_folder(tmp_path: Path, caplog: Any) -> None:
    from mlflow.tracking import MlflowClient

    folder = track_twice(tmp_path, "[{type: mlflow, tags: {team: red}}]", caplog)
    client = MlflowClient((tmp_path / "runs/trackers/mlflow").as_uri())
    experiment = client.get_experiment_by_name("arithmetic")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "first"
    assert run.info.status == "FINISHED"
    assert run.data.tags["ajet.run_id"] == run_id_of(folder)
    assert run.data.tags["team"] == "red"
    assert_settings_arrived(run.data.params)
    history = client.get_metric_history(run.info.run_id, "reward/mean")
    assert [(m.step, m.value) for m in history] == [(1, 0.25), (2, 0.5)]
    [passes] = client.get_metric_history(run.info.run_id, "eval/pass_at_2")
    assert (passes.step, passes.value) == (1, 0.5)


def test_swanlab_on_this_machine(tmp_path: Path, caplog: Any) -> None:
    folder = track_twice(tmp_path, "[{type: swanlab, mode: offline}]", caplog)
    runs = sorted((tmp_path / "runs/trackers/swanlab").glob("run-*"))
    assert len(runs) == 2
    settings = yaml.safe_load((runs[0] / "files/config.yaml").read_text())
    shown = {name: entry["value"] for name, entry in settings.items()}
    assert shown["run_id"] == run_id_of(folder)
    assert_settings_arrived(shown)
    rows: dict[int, dict[str, float]] = {}
    for record in [record for run in runs for record in swanlab_records(run)]:
        if record.WhichOneof("record_type") == "start":
            started = record.start
            assert (started.project, started.name) == ("arithmetic", "first")
            assert started.id == run_id_of(folder)
        if record.WhichOneof("record_type") == "scalar":
            rows.setdefault(record.scalar.step, {})[record.scalar.key] = record.scalar.value.number
    assert rows == METRICS


def swanlab_records(run: Path) -> Iterator[Any]:
    from swanlab.proto.swanlab.record.v1.record_pb2 import Record
    from swanlab.sdk.internal.core_python.store import DataStoreReader

    reader = DataStoreReader()
    reader.open(next(run.glob("*.swanlab")))
    for data in reader:
        record = Record()
        record.ParseFromString(data)
        yield record
    reader.close()


def test_trackio_on_this_machine(tmp_path: Path) -> None:
    # In a process of its own: the library reads the folder's variable when it is imported.
    folder = run_folder(tmp_path)
    script = (
        "import sys; from pathlib import Path; from tests.trackers import test_trackers as t\n"
        "t.guarded_sinks.OPEN_S = t.guarded_sinks.WAIT_S = t.guarded_sinks.CLOSE_S = 300.0\n"
        "config = t.config_of(Path(sys.argv[1]), '[trackio]'); folder = Path(sys.argv[2])\n"
        "t.track(config, folder, [1]); t.track(config, folder, [2], resumed=1)\n"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT), "TRACKIO_DIR": str(tmp_path / "trackio")}
    command = [sys.executable, "-c", script, str(tmp_path), str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert (done.stdout, "metric sink" in done.stderr) == ("", False)
    [store] = (tmp_path / "trackio").glob("*.db")
    assert store.stem == "arithmetic"
    database = sqlite3.connect(store)
    rows = database.execute("select run_name, step, metrics from metrics order by step").fetchall()
    assert {name for name, _, _ in rows} == {"first"}
    assert {step: json.loads(metrics) for _, step, metrics in rows} == METRICS
    [config] = database.execute("select config from configs").fetchall()
    shown = json.loads(config[0])
    assert shown["run_id"] == run_id_of(folder)
    assert_settings_arrived(shown)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.trackers.test_trackers import METRICS, config_of, run_folder
from ajet.monitor.guarded_sinks import GuardedSinks
folder = Path(sys.argv[1])
GuardedSinks(config_of(folder, "wandb"), run_folder(folder)).write(1, METRICS[1])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_is_killed_leaves_temporary_files_in_its_own_folder_only(tmp_path: Path) -> None:
    temporary = tmp_path / "t"
    temporary.mkdir()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=env, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert left_files(temporary, NAMED_IF_KILLED) == ""


def test_several_at_once(tmp_path: Path, caplog: Any) -> None:
    track_twice(tmp_path, "[console, tensorboard, wandb, mlflow, {type: swanlab}]", caplog)
    trackers = tmp_path / "runs" / "trackers"
    assert sorted(path.name for path in trackers.iterdir()) == ["mlflow", "swanlab", "wandb"]
    assert (tmp_path / "runs/first/tensorboard").is_dir()


def test_a_server_that_is_gone_is_reported_and_stops_nothing(
    tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    logger = "[{type: mlflow, tracking_uri: 'http://127.0.0.1:9'}, tensorboard]"
    config, folder = config_of(tmp_path, logger), run_folder(tmp_path)
    track(config, folder, [1, 2])
    texts = [record.message for record in caplog.records if record.name.startswith("ajet")]
    assert len(texts) == 2
    assert texts[0].startswith("metric sink mlflow cannot be used; the run continues without it: ")
    assert "did not take 2 step(s) (1, 2); metrics.jsonl has all of them" in texts[1]
    assert list((folder / "tensorboard").iterdir())
