"""Services: processes that a run needs, and that never outlive it.

1. When the owner is killed, everything that the service started ends, daemons included.
2. When the service ends, a caller that waits for it gets an error at once, with the log's end.
3. Stopping takes no longer than the given time, whatever the service does.
4. No other process is touched.
5. The same holds if its supervisor is killed or stopped, even together with the owner.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ajet.errors import ServiceError
from ajet.monitor.run_record import read_processes, recorded, service_recorder
from ajet.service import left_behind
from ajet.service.probes import start_ticks
from ajet.service.service import Service, ServiceRecord, owned_by
from tests.processes.service_processes import (
    HAS_A_DAEMON,
    HAS_LOST_ITS_FIRST_THREAD,
    IGNORES_SIGTERM,
    ROOT,
    SLEEPS,
    eventually,
    is_gone,
    pid_in,
    python,
)

Make = Callable[..., Service]

OWNER = """
import sys, time
from pathlib import Path
from ajet.service.service import Service
service = Service("env", sys.argv[2:], log=Path("env.log"))
service.start()
Path(sys.argv[1]).write_text(str(service.pid))
time.sleep(600)
"""
WATCHED_OWNER = (
    """
from pathlib import Path
from ajet.launcher import heartbeat
from ajet.service import left_behind
code = Path(left_behind.__file__).read_text()
Path("left_behind.py").write_text(code.replace("GRACE_S = 20.0", "GRACE_S = 0.5"))
watcher = Path("watcher.py")
watcher.write_text(Path(heartbeat.watcher.__file__).read_text())
heartbeat.watcher.__file__ = str(watcher.absolute())
watching = heartbeat.watched(Path.cwd(), 90.0)
watching.__enter__()
"""
    + OWNER
)
CARELESS_OWNER = """
import subprocess, sys, time
from pathlib import Path
process = subprocess.Popen(sys.argv[2:], start_new_session=True)
Path(sys.argv[1]).write_text(str(process.pid))
time.sleep(600)
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes services, and stops them after the test."""
    made: list[Service] = []

    def one(code: str, *arguments: str, **options: object) -> Service:
        log = tmp_path / "logs" / "env.log"
        made.append(Service("env", python(code, *arguments), log=log, **options))  # type: ignore[arg-type]
        return made[-1]

    yield one
    for service in made:
        service.stop(0.0)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the same command line as a service, and is none of our business."""
    process = subprocess.Popen(python(SLEEPS))
    yield process
    process.kill()
    process.wait()


def is_deaf(service: Service) -> bool:
    return "deaf" in service.log_tail()


def owner_that_is_killed(code: str, folder: Path) -> tuple[int, int]:
    """Kills the owner of a service; returns the service's pid and that of its daemon."""
    pids = folder / "service.pid", folder / "daemon.pid"
    command = python(code, str(pids[0]), *python(HAS_A_DAEMON, str(pids[1])))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    owner = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL)
    found = pid_in(pids[0]), pid_in(pids[1])
    assert not any(map(is_gone, found))
    owner.kill()
    owner.wait()
    return found


def test_nothing_outlives_an_owner_that_is_killed(tmp_path: Path) -> None:
    service, daemon = owner_that_is_killed(OWNER, tmp_path)
    assert eventually(lambda: is_gone(service) and is_gone(daemon))


def test_without_a_supervisor_both_live_on(tmp_path: Path) -> None:
    survivors = owner_that_is_killed(CARELESS_OWNER, tmp_path)
    try:
        assert not eventually(lambda: any(map(is_gone, survivors)), seconds=1.0)
    finally:
        for pid in survivors:
            os.kill(pid, signal.SIGKILL)


def test_a_forked_child_does_not_keep_the_services_of_a_dead_owner(tmp_path: Path) -> None:
    fork = "os.fork() or (Path('child.pid').write_text(str(os.getpid())), time.sleep(600))"
    forking = f"import os\n{OWNER}".replace("Path(sys.argv[1])", f"{fork}\nPath(sys.argv[1])")
    service, daemon = owner_that_is_killed(forking, tmp_path)
    child = pid_in(tmp_path / "child.pid")
    try:
        assert eventually(lambda: is_gone(service) and is_gone(daemon))
        assert not is_gone(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_stopping_ends_daemons_too(make: Make, tmp_path: Path) -> None:
    service = make(HAS_A_DAEMON, str(tmp_path / "daemon.pid"))
    service.start()
    daemon = pid_in(tmp_path / "daemon.pid")
    service.stop()
    assert is_gone(service.pid)
    assert is_gone(daemon)
    assert service.returncode == -signal.SIGTERM


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a number of a system call")
def test_stopping_ends_what_only_looks_dead_and_what_is_below(make: Make, tmp_path: Path) -> None:
    service = make(HAS_LOST_ITS_FIRST_THREAD, str(tmp_path / "pid"))
    service.start()
    child = pid_in(tmp_path / "pid")
    assert eventually(lambda: "zombie" in Path(f"/proc/{service.pid}/status").read_text())
    assert not is_gone(child)
    service.stop(patience_s=1.0)
    assert eventually(lambda: is_gone(child))
    assert service.returncode is not None


def test_what_a_service_leaves_behind_when_it_ends_is_ended(make: Make, tmp_path: Path) -> None:
    service = make(HAS_A_DAEMON, str(tmp_path / "daemon.pid"))
    service.start()
    daemon = pid_in(tmp_path / "daemon.pid")
    os.kill(service.pid, signal.SIGKILL)
    assert eventually(lambda: is_gone(daemon))
    assert service.returncode == -signal.SIGKILL


def test_stopping_is_bounded_though_the_service_ignores_sigterm(make: Make) -> None:
    service = make(IGNORES_SIGTERM)
    service.start()
    service.wait_until(lambda: is_deaf(service), timeout_s=60.0)
    begun = time.monotonic()
    service.stop(patience_s=0.5)
    assert 0.5 <= time.monotonic() - begun < 9.0  # less than it may take where no time is given
    assert service.returncode == -signal.SIGKILL
    assert is_gone(service.pid)


def test_stopping_twice_or_before_the_start_does_nothing(make: Make) -> None:
    service = make(SLEEPS)
    service.stop()
    service.start()
    service.stop()
    service.stop()
    assert service.returncode == -signal.SIGTERM


def test_a_service_is_started_once(make: Make) -> None:
    service = make(SLEEPS)
    service.start()
    with pytest.raises(AssertionError, match="env was started before"):
        service.start()
    assert service.returncode is None


def test_waiting_for_a_service_that_ends_tells_its_status_and_log_at_once(make: Make) -> None:
    service = make("import sys; print('port 80 is taken'); sys.exit(3)")
    service.start()
    begun = time.monotonic()
    with pytest.raises(ServiceError) as caught:
        service.wait_until(lambda: False, timeout_s=60.0)
    assert time.monotonic() - begun < 50.0
    first, second, *rest = str(caught.value).splitlines()
    assert first.startswith("env ended with exit status 3, ")
    assert second == f"the end of {service.log}:"
    assert rest[0] == "port 80 is taken"
    assert rest[-1].startswith("to find out more, start it by hand:  ")


def test_waiting_ends_when_time_is_over(make: Make) -> None:
    service = make("print('loading', flush=True);" + SLEEPS)
    service.start()
    service.wait_until(lambda: service.log_tail() == "loading", timeout_s=60.0)
    with pytest.raises(ServiceError, match=r"env was not ready within 0\.2 s\n.*\nloading"):
        service.wait_until(lambda: False, timeout_s=0.2)


def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    for command, cwd, reason in [
        (["no-such-program"], None, "no-such-program: No such file"),
        ([str(tmp_path)], None, "Permission denied"),
        (["true"], tmp_path / "nowhere", "nowhere"),
    ]:
        service = Service("env", command, log=tmp_path / "env.log", cwd=cwd)
        with pytest.raises(ServiceError, match=f"env cannot be started: .*{reason}"):
            service.start()


def test_the_log_is_appended_to_and_a_start_sees_its_own_lines(make: Make) -> None:
    for word in ("first", "second"):
        code = f"import sys; print('{word}', flush=True); print('error', file=sys.stderr)"
        service = make(code)
        service.start()
        assert eventually(lambda: service.returncode == 0)  # noqa: B023
        assert service.log_tail() == f"{word}\nerror"
        assert service.log_tail(1) == "error"
    assert service.log.read_text() == "first\nerror\nsecond\nerror\n"


def test_environment_directory_and_input(make: Make, tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['COLOUR'], 'PATH' in os.environ, os.getcwd()"
    service = make(code + ", repr(sys.stdin.read()))", env={"COLOUR": "red"}, cwd=tmp_path)
    service.start()
    assert eventually(lambda: service.returncode == 0)
    assert service.log_tail() == f"red True {tmp_path} ''"


def test_a_started_service_is_recorded(make: Make) -> None:
    records: list[ServiceRecord] = []
    service = make(SLEEPS, on_started=records.append)
    service.start()
    [record] = records
    assert (record.name, record.pid) == ("env", service.pid)
    assert record.start_ticks == start_ticks(service.pid)
    assert record.command == tuple(python(SLEEPS))
    assert record.log == str(service.log)


def test_a_process_that_looks_the_same_is_left_alone(
    make: Make, bystander: subprocess.Popen[bytes]
) -> None:
    service = make(SLEEPS)
    service.start()
    service.stop()
    assert is_gone(service.pid)
    assert bystander.poll() is None


def test_ctrl_c_does_not_reach_a_service(make: Make) -> None:
    service = make(SLEEPS)
    service.start()
    assert os.getsid(service.pid) != os.getsid(0)
    assert os.getpgid(service.pid) == service.pid


def test_a_service_has_no_file_of_ours(make: Make, tmp_path: Path) -> None:
    with (tmp_path / "ours").open("w"):
        service = make("import os; print(sorted(os.listdir('/proc/self/fd')))")
        service.start()
        assert eventually(lambda: service.returncode == 0)
    assert service.log_tail() == "['0', '1', '2', '3']"  # 3: the listing itself


def service_with_a_daemon(make: Make, folder: Path) -> tuple[Service, int]:
    service = make(HAS_A_DAEMON, str(folder / "daemon.pid"))
    service.start()
    return service, pid_in(folder / "daemon.pid")


def test_a_supervisor_that_is_killed_takes_its_service_with_it(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service, daemon = service_with_a_daemon(make, tmp_path)
    assert service._supervisor is not None
    service._supervisor.kill()
    assert eventually(lambda: service.returncode == -signal.SIGKILL)
    assert is_gone(service.pid)
    assert is_gone(daemon)
    assert "was ended by SIGKILL, so the service is ended, too" in caplog.text


def test_stopping_ends_a_service_whose_supervisor_is_stopped(make: Make, tmp_path: Path) -> None:
    service, daemon = service_with_a_daemon(make, tmp_path)
    assert service._supervisor is not None
    service._supervisor.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    service.stop(patience_s=1.0)
    assert time.monotonic() - begun < 10.0  # it would be given up after 11 s
    assert is_gone(service.pid)
    assert is_gone(daemon)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_nothing_outlives_a_run_and_its_supervisor(tmp_path: Path, number: signal.Signals) -> None:
    """Both are lost, so that only the process that watches the run can end the service."""
    pids = tmp_path / "service.pid", tmp_path / "daemon.pid"
    (tmp_path / "logs").mkdir()
    command = python(WATCHED_OWNER, str(pids[0]), *python(HAS_A_DAEMON, str(pids[1])))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    owner = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL)
    service, daemon = pid_in(pids[0]), pid_in(pids[1])
    status = Path(f"/proc/{service}/stat").read_text()
    supervisor = int(status.rpartition(")")[2].split()[1])
    os.kill(owner.pid, signal.SIGSTOP)  # or it would end the service, as it should
    os.kill(supervisor, number)
    owner.kill()
    owner.wait()
    assert eventually(lambda: all(map(is_gone, (service, daemon, supervisor))))


def test_a_service_of_another_run_is_no_leftover(make: Make) -> None:
    service = make(SLEEPS)
    service.start()
    assert service.pid in left_behind.processes_of(owned_by(os.getpid()))
    assert left_behind.processes_of(owned_by(os.getppid())) == set()


def test_a_process_whose_program_is_being_loaded_is_found() -> None:
    """For a moment after its start, the system shows no variables of a process."""
    variable = f"{left_behind.VARIABLE}=being-loaded".encode()
    environment = {**os.environ, left_behind.VARIABLE: "being-loaded"}
    for _ in range(50):
        pid = os.posix_spawnp("sleep", ["sleep", "60"], environment)
        try:
            assert variable in left_behind.environment_of(pid).split(b"\0")
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_the_variables_of_a_process_that_has_none_are_empty() -> None:
    pid = os.posix_spawnp("sleep", ["sleep", "60"], {})
    begun = time.monotonic()
    try:
        assert left_behind.environment_of(pid) == b""
    finally:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with pytest.raises(OSError):
        left_behind.environment_of(pid)
    assert time.monotonic() - begun < left_behind._LOADING_S


def test_many_services_at_once(make: Make) -> None:
    services = [make(SLEEPS) for _ in range(8)]
    for service in services:
        service.start()
    services[3].stop()
    assert [service.returncode for service in services].count(None) == 7


def test_services_of_a_run_are_kept_in_its_record(make: Make, tmp_path: Path) -> None:
    with recorded(tmp_path, ["ajet"]):
        services = [make(SLEEPS, on_started=service_recorder(tmp_path)) for _ in range(4)]
        threads = [threading.Thread(target=service.start) for service in services]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    [process] = read_processes(tmp_path)
    assert process["outcome"] == "finished"
    pids = {service.pid: start_ticks(service.pid) for service in services}
    assert {kept["pid"]: kept["start_ticks"] for kept in process["services"]} == pids
    assert process["services"][0]["command"] == python(SLEEPS)
