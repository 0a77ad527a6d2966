"""Rules of the progress display: plain lines without a terminal, live lines on one; time left."""

from __future__ import annotations

import codecs
import io
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from ajet.monitor.metric_table import metric_table, step_line
from ajet.monitor.output import StderrHandler
from ajet.monitor.progress import Progress, StepClock, duration
from tests.unit.monitor_records import eval_metrics, train_metrics


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def plain_progress(width: int = 80) -> tuple[Progress, io.StringIO, Clock]:
    file, clock = io.StringIO(), Clock()
    return Progress(Console(file=file, width=width), now=clock), file, clock


def test_without_a_terminal_each_phase_and_step_is_one_plain_line() -> None:
    progress, file, clock = plain_progress(width=20)
    with progress:
        progress.start(total_steps=3)
        for step in (1, 2):
            with progress.phase("rollout", total=2) as phase:
                clock.time += 4
                phase.advance()
                phase.advance()
            with progress.phase("sync"):
                clock.time += 0.5
            progress.step_done(step, {"reward/mean": 0.5, "episode/success_rate": 0.25})
        progress.line("saved")
    assert file.getvalue().splitlines() == [
        "[0:04] rollout 2/2 in 4.0 s",
        "[0:04] sync in 0.5 s",
        "[0:04] step 1/3  reward 0.500  success 25.0%  left 0:09",
        "[0:08] rollout 2/2 in 4.0 s",
        "[0:09] sync in 0.5 s",
        "[0:09] step 2/3  reward 0.500  success 25.0%  left 0:04",
        "[0:09] saved",
    ]


def test_forced_colour_does_not_make_a_file_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    progress, file, _ = plain_progress()
    with progress:
        progress.start(1)
    assert "\x1b[?25l" not in file.getvalue()


def test_time_left_uses_steps_of_this_process_only() -> None:
    progress, file, clock = plain_progress()
    clock.time += 50
    progress.start(total_steps=20, done_steps=8)
    assert progress.time_left is None
    clock.time += 3
    progress.step_done(9, {})
    assert progress.time_left == 33
    clock.time += 1
    assert progress.time_left == 32
    assert "resumed after step 8 of 20" in file.getvalue()


def test_time_before_the_first_step_belongs_to_no_step() -> None:
    progress, _, clock = plain_progress()
    progress.start(total_steps=10)
    clock.time += 60
    progress.step_done(0, eval_metrics(0))
    clock.time += 2
    progress.step_done(1, {})
    assert progress.done_steps == 1
    assert progress.time_left == 18


def test_time_left_follows_recent_steps_and_is_never_negative() -> None:
    now = Clock()
    clock = StepClock(now)
    clock.start_steps()
    for pace in [100] + [2] * 10:
        now.time += pace
        clock.step_done()
    assert clock.left(5) == 10
    now.time += 1000
    assert clock.left(5) == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.4, "0:00"), (59.6, "1:00"), (3723, "1:02:03")]
)
def test_durations_read_like_a_clock(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_a_phase_counts_from_many_threads() -> None:
    progress, file, _ = plain_progress()
    with progress.phase("rollout", total=8000) as phase:
        threads = [
            threading.Thread(target=lambda: [phase.advance() for _ in range(1000)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "rollout 8000/8000" in file.getvalue()


def test_an_interrupted_phase_reports_its_progress() -> None:
    progress, file, clock = plain_progress()
    with pytest.raises(KeyboardInterrupt), progress, progress.phase("rollout", total=5) as phase:
        phase.advance(2)
        clock.time += 3
        raise KeyboardInterrupt
    assert file.getvalue() == "[0:03] rollout 2/5 stopped after 3.0 s\n"
    assert progress.phases == []


def test_step_lines_are_aligned_and_fit_into_80_columns() -> None:
    long = step_line(10, 20, train_metrics(10) | eval_metrics(10))
    assert len(long) <= 80
    short = step_line(9, 20, train_metrics(9))
    assert [m.start() for m in re.finditer("reward|success|in ", short)] == [
        m.start() for m in re.finditer("reward|success|in ", long)
    ]


def test_the_step_line_counts_failed_episodes_if_there_are_any() -> None:
    assert step_line(3, 20, train_metrics(3)).endswith("failed 2")
    assert "failed" not in step_line(4, 20, train_metrics(4))


def test_the_table_shows_available_metrics_and_fits_into_80_columns() -> None:
    file = io.StringIO()
    Console(file=file, width=200).print(metric_table(train_metrics(7) | eval_metrics(7)))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "logprob diff max 2.1e-06" in file.getvalue()
    only_eval = io.StringIO()
    Console(file=only_eval, width=80).print(metric_table({"eval/success_rate": 0.5, "mine": 1}))
    assert only_eval.getvalue() == "eval       sampled 50.0%\n"


def test_log_lines_are_not_wrapped_and_markup_in_them_is_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    values = {"msg": "[bold]%s[/x]", "args": ("y" * 40,), "levelno": logging.INFO}
    StderrHandler().handle(logging.makeLogRecord(values))
    assert capsys.readouterr().err == f"[bold]{'y' * 40}[/x]\n"


LIVE_LOOP = """
import logging, signal, time
from ajet.monitor.output import log_to_console
from ajet.monitor.progress import Progress
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
with Progress() as progress:
    log_to_console()
    progress.start(20)
    progress.step_done(1, {"reward/mean": 0.5})
    with progress.phase("rollout", total=100) as phase:
        phase.advance(40)
        logging.warning("a log line")
        print("a print")
        for _ in range(1200):  # a signal just before one long sleep waits for its end
            time.sleep(0.1)
"""


@pytest.mark.parametrize("columns", [80, 20])
def test_live_lines_stay_below_printed_text_and_ctrl_c_restores_the_terminal(columns: int) -> None:
    main, process = start_on_a_terminal(LIVE_LOOP, COLUMNS=str(columns))
    shown = read_until(main, "a print")
    if "40/100" not in shown:
        shown += read_until(main, "40/100")
    process.send_signal(signal.SIGINT)
    shown += read_until(main, "KeyboardInterrupt\r\n")
    process.wait(60)
    os.close(main)
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    for line in ("step  1/20  reward 0.500", "a log line", "a print", "rollout 40/100 stopped"):
        assert f"{line}" in shown
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split("[\r\n]+", shown)]
    moving = [line for line in lines if "━" in line or "─" in line or re.search(r" {5}1/20", line)]
    assert moving
    # A longer one would take two lines of the terminal, of which one is left over.
    assert max(map(len, moving)) <= columns


EARLY_HANDLERS = """
import logging, signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
from ajet.monitor.progress import Progress
from ajet.monitor.output import steady_output
with steady_output():
    for name in ("stdout", "stderr"):  # as a workflow file does when it is imported
        logging.getLogger(name).addHandler(logging.StreamHandler(getattr(sys, name)))
    with Progress() as progress:
        progress.start(20)
        with progress.phase("rollout", total=100):
            signal.sigwait([signal.SIGUSR1])  # it comes when the moving lines are there
            logging.getLogger("stdout").warning("early to stdout")
            logging.getLogger("stderr").warning("early to stderr")
            time.sleep(0.6)
    logging.getLogger("stderr").warning("afterwards")
"""


def test_loggers_that_hold_a_stream_from_the_start_write_above_the_moving_lines() -> None:
    main, process = start_on_a_terminal(EARLY_HANDLERS)
    shown = read_until(main, "0/100")
    process.send_signal(signal.SIGUSR1)
    shown += read_until(main, "afterwards\r\n")
    process.wait(60)
    os.close(main)
    for name in ("stdout", "stderr"):
        # The moving lines are erased before the text and drawn again after it.
        assert re.search(rf"\x1b\[2K(\x1b\[[0-9;]*m)*early to {name}", shown), repr(shown)
        assert shown.count(f"early to {name}") == 1


def test_a_dumb_terminal_gets_plain_lines() -> None:
    main, process = start_on_a_terminal(LIVE_LOOP, TERM="dumb")
    shown = read_until(main, "a print")
    process.send_signal(signal.SIGINT)
    process.wait(60)
    os.close(main)
    assert "\x1b" not in shown
    assert re.search(r"\[0:\d\d\] step  1/20  reward 0\.500  left ", shown)


def start_on_a_terminal(code: str, **env: str) -> tuple[int, subprocess.Popen[bytes]]:
    """Start Python on a pseudo-terminal of 80 x 24; return our end and the process."""
    main, side = pty.openpty()
    env = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"} | env
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=side, stdout=side, stderr=side, env=env, cwd=root
    )
    os.close(side)
    return main, process


def read_until(main: int, wanted: str, timeout_s: float = 60) -> str:
    """Read the process's output up to and including `wanted`, in whole characters."""
    got, deadline = "", time.monotonic() + timeout_s
    decoder = codecs.getincrementaldecoder("utf-8")()
    while (wanted not in got or decoder.getstate()[0]) and time.monotonic() < deadline:
        if select.select([main], [], [], 0.1)[0]:
            try:
                got += decoder.decode(os.read(main, 65536))
            except OSError:
                break
    assert wanted in got, got
    return got
