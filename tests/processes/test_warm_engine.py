"""`ajet engine`: an engine that stays up.

1. It is started once for a model, found by debug runs, listed, and stopped; nothing is left.
2. Its key stands in a file of the user's alone: not in arguments, environment or logs.
3. It ends when it is idle, and not while it is used.
4. One that cannot start says why. What was killed is not listed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ajet.backbone.debug.warm_engine.registry import WarmEngine, in_use, warm_engines
from ajet.service.probes import start_ticks
from tests.processes.debug_runs import command, debug, environment, write_agent
from tests.processes.service_processes import eventually

pytestmark = pytest.mark.slow

Engine = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return write_agent(tmp_path)


@pytest.fixture
def engine(conf: Path) -> Iterator[Engine]:
    """Runs `ajet engine`; what is still up afterwards is stopped."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command("engine", *args),
            cwd=conf.parent,
            env=environment(conf.parent, OMP_NUM_THREADS="1"),
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )

    yield run
    for _, warm in warm_engines():
        with suppress(ProcessLookupError):
            os.kill(warm.pid, signal.SIGKILL)


def the_one() -> tuple[Path, WarmEngine]:
    [entry] = warm_engines()
    return entry


def ends(warm: WarmEngine) -> bool:
    return eventually(lambda: not warm.is_alive)


def test_it_is_started_found_listed_and_stopped(conf: Path, engine: Engine) -> None:
    started = engine("start", "--conf", str(conf))
    assert started.returncode == 0, started.stderr
    path, warm = the_one()
    assert f"process {warm.pid}, {warm.url}" in started.stdout
    assert "already running" in engine("start", "--conf", str(conf)).stdout
    assert the_one()[1] == warm

    ended = debug(conf, "debug.engine=warm")
    assert ended.returncode == 0, ended.stderr
    assert f"the warm one (embedded, process {warm.pid})" in ended.stderr
    assert "sample 1: " in ended.stdout
    assert f"process {warm.pid}, {warm.url}, running for" in engine("status").stdout

    process = Path(f"/proc/{warm.pid}")
    told = [process / "cmdline", process / "environ", Path(warm.log)]
    assert all(warm.api_key.encode() not in file.read_bytes() for file in told)
    assert warm.api_key in path.read_text()

    assert f"stopped: {warm.model} (embedded), process {warm.pid}" in engine("stop").stdout
    assert not warm.is_alive
    assert not path.exists()
    assert "no warm engine is running" in engine("status").stdout
    assert "no warm engine is running" in engine("stop").stdout


def test_it_ends_when_idle_and_not_while_it_is_used(conf: Path, engine: Engine) -> None:
    engine("start", "--conf", str(conf), "--idle-s", "10")
    path, warm = the_one()
    with in_use(path) as used:
        assert used == warm
        time.sleep(13)
        assert warm.is_alive
    assert ends(warm)
    assert not path.exists()
    assert "not used for 10 s" in Path(warm.log).read_text()


def test_one_that_was_killed_is_listed_no_more(conf: Path, engine: Engine) -> None:
    engine("start", "--conf", str(conf))
    path, warm = the_one()
    os.kill(warm.pid, signal.SIGKILL)
    assert ends(warm)
    assert "no warm engine is running" in engine("status").stdout
    assert not path.exists()


def test_one_that_cannot_start_says_why(conf: Path, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = engine("start", "--conf", str(conf), f"model.path={tmp_path}/empty")
    assert ended.returncode == 1
    assert f"{tmp_path}/empty: found no tokenizer.json; expected a model" in ended.stderr
    assert warm_engines() == []


def test_stop_leaves_a_process_alone_that_only_has_the_pid(conf: Path, engine: Engine) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        path = conf.parent / "ajet" / "engines" / "0.json"
        path.parent.mkdir(parents=True)
        fields = {"engine": "embedded", "model": "/m", "weights": "", "url": "", "log": ""}
        fields |= {"pid": other.pid, "start_ticks": (start_ticks(other.pid) or 0) + 1}
        fields |= {"api_key": "", "started_s": 0.0, "idle_s": 1.0}
        path.write_text(json.dumps(fields))
        assert "no warm engine is running" in engine("stop").stdout
        assert other.poll() is None
        other.kill()


def test_start_wants_to_know_the_model(engine: Engine) -> None:
    ended = engine("start")
    assert ended.returncode == 2
    assert "error: ajet engine start needs --conf FILE, which names the model" in ended.stderr
