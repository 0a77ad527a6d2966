"""A metric sink never harms the run.

1. A sink that cannot be made, fails in a step, or fails at the end is reported, and nothing else.
2. A slow sink gets all steps, and the run waits for it once.
3. A sink that hangs does not keep the run from ending.
4. A class path that names nothing is a mistake in the configuration, and is refused.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ajet.errors import ConfigError
from ajet.monitor import guarded_sinks
from ajet.monitor.guarded_sinks import GuardedSinks
from tests.unit.config_files import MINIMAL, load

SINK = """
import time
{head}

class Sink:
    def __init__(self, context):
        self.file = context.run_folder / "arrived.txt"
        {init}

    def write(self, step, metrics):
        {write}
        with self.file.open("a") as file:
            file.write(f"{{step}} ")

    def close(self):
        {close}
        with self.file.open("a") as file:
            file.write("end")
"""


def run(
    tmp_path: Path, *, head: str = "", init: str = "", write: str = "", close: str = ""
) -> tuple[str, float]:
    """What arrives of two steps, and the seconds that the run took."""
    text = SINK.format(head=head, init=init, write=write, close=close)
    (tmp_path / "my_sink.py").write_text(text)
    config = load(tmp_path, MINIMAL, "trainer_common.logger=my_sink.py->Sink")
    started = time.monotonic()
    sinks = GuardedSinks(config, tmp_path)
    for step in (1, 2):
        sinks.write(step, {"reward/mean": 0.5})
    sinks.close()
    arrived = tmp_path / "arrived.txt"
    return arrived.read_text() if arrived.exists() else "", time.monotonic() - started


def messages(caplog: Any) -> list[str]:
    return [r.message.partition("my_sink.py->Sink ")[2] for r in caplog.records]


def test_a_good_sink_gets_every_step_before_the_run_continues(tmp_path: Path, caplog: Any) -> None:
    assert run(tmp_path)[0] == "1 2 end"
    assert messages(caplog) == []


ERRORS = ["raise OSError(28, 'No space left on device')", "raise SystemExit(3)", "1 / 0"]


@pytest.mark.parametrize("error", [*ERRORS, "import no_such_library"])
def test_a_sink_that_cannot_be_made(tmp_path: Path, caplog: Any, error: str) -> None:
    assert run(tmp_path, init=error)[0] == ""
    first, last = messages(caplog)
    assert first.startswith("cannot be used; the run continues without it: ")
    assert last == "did not take 2 step(s) (1, 2); metrics.jsonl has all of them"


@pytest.mark.parametrize("error", ERRORS)
def test_a_sink_that_fails_in_every_step_is_reported_once(
    tmp_path: Path, caplog: Any, error: str
) -> None:
    assert run(tmp_path, write=error)[0] == "end"
    first, last = messages(caplog)
    assert first.startswith("failed in step 1: ")
    assert last == "did not take 2 step(s) (1, 2); metrics.jsonl has all of them"


def test_a_sink_that_fails_once_gets_the_other_steps(tmp_path: Path, caplog: Any) -> None:
    assert run(tmp_path, write="assert step != 1, 'x' * 10_000")[0] == "2 end"
    first, last = messages(caplog)
    assert len(first) < 600
    assert last == "did not take 1 step(s) (1); metrics.jsonl has all of them"


@pytest.mark.parametrize("error", ERRORS)
def test_a_sink_that_fails_at_the_end(tmp_path: Path, caplog: Any, error: str) -> None:
    assert run(tmp_path, close=error)[0] == "1 2 "
    [only] = messages(caplog)
    assert only.startswith("could not be closed: ")


def test_a_slow_sink_gets_all_steps_in_the_end(
    tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded_sinks, "WAIT_S", 0.05)
    assert run(tmp_path, write="time.sleep(0.2)")[0] == "1 2 end"
    [only] = messages(caplog)
    assert only == "takes more than 0.05 s; the run does not wait for it any more"


@pytest.mark.parametrize("place", ["init", "write", "close"])
def test_a_sink_that_hangs_does_not_keep_the_run_from_ending(
    tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    for name in ("OPEN_S", "WAIT_S", "CLOSE_S"):
        monkeypatch.setattr(guarded_sinks, name, 0.05)
    arrived, seconds = run(tmp_path, **{place: "time.sleep(60)"})
    assert seconds < 30
    assert "end" not in arrived
    expected = "has not ended after 0.05 s: steps may be missing there; metrics.jsonl has all"
    assert messages(caplog)[-1].startswith(expected)


def test_a_class_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    (tmp_path / "my_sink.py").write_text("")
    config = load(tmp_path, MINIMAL, "trainer_common.logger=my_sink.py->Sink")
    with pytest.raises(ConfigError, match='no class "Sink"'):
        GuardedSinks(config, tmp_path)
