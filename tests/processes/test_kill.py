"""`ajet kill`: ends what a run's record names, by pid and start time, and nothing else.

1. The run gets SIGTERM, which is Ctrl-C to it; a deaf one is killed in the end.
2. Services that outlived it are ended, with everything that they started.
3. A pid that means another process by now is not touched, nor is a process of another host.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import ajet.commands.kill as kill_module
from ajet.cli import app
from ajet.launcher.signals import sigterm_as_ctrl_c
from ajet.monitor.run_record import read_processes, recorded
from ajet.service.left_behind import VARIABLE
from ajet.service.probes import start_ticks
from ajet.training.loop import deferred_interrupt
from tests.processes.service_processes import (
    IGNORES_SIGTERM,
    ROOT,
    SLEEPS,
    eventually,
    is_gone,
    python,
)

Start = Callable[..., subprocess.Popen[str]]

RUN = """
import sys, time
from pathlib import Path
from ajet.launcher.signals import sigterm_as_ctrl_c
from ajet.monitor.run_record import recorded, service_recorder
from ajet.service.service import Service
folder = Path(sys.argv[1])
with sigterm_as_ctrl_c(), recorded(folder, ["ajet"]):
    record = service_recorder(folder)
    service = Service("env", sys.argv[2:], log=folder / "env.log", on_started=record)
    service.start()
    try:
        print("running", flush=True)
        while True: time.sleep(0.1)  # a signal just before one long sleep waits for its end
    finally:
        (folder / "checkpoint").touch()
        service.stop()
"""
DEAF_RUN = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);" + RUN.replace(
    "while True: time.sleep(0.1)",
    """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf", flush=True)
        time.sleep(600)""",
)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes and reaps each when it ends, as a shell does."""
    started: list[subprocess.Popen[str]] = []

    def one(code: str, *arguments: str, until: str = "") -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = python(code, *arguments)
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        while until and process.stdout.readline().strip() != until:
            assert process.poll() is None
        return process

    yield one
    for process in started:
        process.kill()
        process.communicate()


def ajet_kill(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["kill", *arguments])


def write_record(folder: Path, **changes: Any) -> None:
    """The record of a run that has ended, with changes."""
    with recorded(folder, ["ajet"]):
        pass
    record = json.loads((folder / "run.json").read_text())
    record["processes"][0].update(changes)
    (folder / "run.json").write_text(json.dumps(record))


def service_record(pid: int, ticks: int | None, service_id: str = "1-2-none") -> dict[str, Any]:
    return {"name": "env", "pid": pid, "start_ticks": ticks, "service_id": service_id}


def test_a_run_ends_as_by_ctrl_c_and_its_services_with_it(tmp_path: Path, start: Start) -> None:
    process = start(RUN, str(tmp_path), *python(SLEEPS), until="running")
    [service] = read_processes(tmp_path)[0]["services"]
    result = ajet_kill(str(tmp_path))
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        f"sending SIGTERM to the run's process {process.pid}",
        f"the run's process {process.pid} has ended",
        f"no process of {tmp_path} is running",
    ]
    assert process.wait() != 0
    assert is_gone(service["pid"])
    assert (tmp_path / "checkpoint").exists()
    assert read_processes(tmp_path)[0]["outcome"] == "interrupted"


def test_a_run_that_does_not_listen_is_killed_in_the_end(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kill_module, "_PATIENCE_S", 0.2)
    process = start(DEAF_RUN, str(tmp_path), *python(SLEEPS), until="deaf")
    [service] = read_processes(tmp_path)[0]["services"]
    result = ajet_kill(str(tmp_path), "--patience-s=0.2")
    assert f"sending SIGKILL to the run's process {process.pid}\n" in result.output
    assert result.exit_code == 0
    assert process.wait() == -signal.SIGKILL
    assert eventually(lambda: is_gone(service["pid"]))


def test_a_service_that_outlived_its_run_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kill_module, "_PATIENCE_S", 0.2)
    service = subprocess.Popen(python(IGNORES_SIGTERM), process_group=0, stdout=subprocess.PIPE)
    try:
        assert service.stdout is not None
        service.stdout.readline()
        ticks = start_ticks(service.pid)
        write_record(tmp_path, services=[service_record(service.pid, ticks)])
        result = ajet_kill(str(tmp_path))
        assert "sending SIGTERM to the service env, process" in result.output
        assert "sending SIGKILL to the service env, process" in result.output
        assert result.exit_code == 0
        assert service.wait() == -signal.SIGKILL
    finally:
        service.kill()
        service.communicate()


def test_what_a_service_left_behind_is_ended(tmp_path: Path) -> None:
    env = {**os.environ, VARIABLE: "12-34-abc"}
    daemon = subprocess.Popen(python(SLEEPS), env=env, start_new_session=True)
    other = subprocess.Popen(python(SLEEPS), env={**os.environ, VARIABLE: "12-34-abd"})
    try:
        write_record(tmp_path, services=[service_record(daemon.pid, None, "12-34-abc")])
        result = ajet_kill(str(tmp_path))
        assert "processes that the service env left behind, now ended: 1\n" in result.output
        assert daemon.wait(60) == -signal.SIGTERM
        assert other.poll() is None
    finally:
        for process in (daemon, other):
            process.kill()
            process.wait()


def test_another_process_that_has_the_pid_by_now_is_left_alone(
    tmp_path: Path, start: Start
) -> None:
    other = start("print('up', flush=True);" + SLEEPS, until="up")
    earlier = (start_ticks(other.pid) or 0) - 1
    write_record(
        tmp_path,
        outcome="running",
        pid=other.pid,
        start_ticks=earlier,
        services=[service_record(other.pid, earlier), service_record(other.pid, None)],
    )
    result = ajet_kill(str(tmp_path))
    assert (result.exit_code, result.output) == (0, f"no process of {tmp_path} is running\n")
    assert other.poll() is None


def test_a_process_of_another_host_is_named_and_left_alone(tmp_path: Path, start: Start) -> None:
    other = start("print('up', flush=True);" + SLEEPS, until="up")
    ticks = start_ticks(other.pid)
    services = [service_record(other.pid, ticks)]
    changes = {"pid": other.pid, "start_ticks": ticks, "services": services}
    write_record(tmp_path, outcome="running", host="elsewhere", **changes)
    result = ajet_kill(str(tmp_path))
    assert result.exit_code == 1
    assert result.output == (
        f"process {other.pid} is not ended: it is on elsewhere; run ajet kill there\n"
    )
    assert other.poll() is None


def test_a_process_whose_run_has_ended_is_left_alone(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kill_module, "_PATIENCE_S", 0.2)
    notebook = f"""{RUN.replace("while True: time.sleep(0.1)", "time.sleep(1)")}
print("at work", flush=True)
time.sleep(600)
"""
    process = start(notebook, str(tmp_path), *python(SLEEPS), until="at work")
    assert ajet_kill(str(tmp_path)).output == f"no process of {tmp_path} is running\n"
    assert process.poll() is None


def test_a_run_may_be_named(tmp_path: Path) -> None:
    folder = tmp_path / "math-2"
    folder.mkdir()
    write_record(folder)
    assert ajet_kill("math-2", f"--exp-dir={tmp_path}").output == (
        f"no process of {folder} is running\n"
    )


def test_a_run_that_is_not_there_is_told(tmp_path: Path) -> None:
    result = ajet_kill("math", f"--exp-dir={tmp_path}")
    assert result.exit_code != 0
    assert str(result.exception) == (
        f'there is no run "math"; looked for math/run.json and {tmp_path}/math/run.json'
    )


# SIGTERM to a run.


def test_sigterm_is_ctrl_c_while_a_run_goes_on_and_only_then() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_as_ctrl_c():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_asks_whoever_holds_ctrl_c_back() -> None:
    done = False
    with pytest.raises(KeyboardInterrupt), sigterm_as_ctrl_c(), deferred_interrupt():
        signal.raise_signal(signal.SIGTERM)
        done = True
    assert done


def test_sigterm_ends_a_run_for_which_ctrl_c_is_ignored() -> None:
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), sigterm_as_ctrl_c():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize("to_the_end", [False, True])
def test_what_holds_ctrl_c_back_does_not_answer_one_that_is_ignored(to_the_end: bool) -> None:
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    done = 0
    try:
        with sigterm_as_ctrl_c(), deferred_interrupt(to_the_end=to_the_end):
            signal.raise_signal(signal.SIGINT)
            done += 1
        held = deferred_interrupt(to_the_end=to_the_end)
        with pytest.raises(KeyboardInterrupt), sigterm_as_ctrl_c(), held:
            signal.raise_signal(signal.SIGTERM)
            done += 1
    finally:
        signal.signal(signal.SIGINT, previous)
    assert done == 2
