"""What happens to standard output and error never ends a run or silences it.

1. A stream that fails, is closed or lacks a character raises nothing; all else is the stream's own.
   While nobody reads a pipe, text is left out, and how much is said as soon as somebody reads.
2. Log lines go where they went at the start, whatever user code does to `sys.stderr`.
3. A log handler that fails is named once; other handlers get the line, and the caller no exception.
4. Within the block `os._exit` raises SystemExit; handlers are as before when the block is left.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import time

import pytest

from ajet.boundary import guarded_log_handlers
from ajet.launcher.signals import hard_exits_raise, sigterm_as_ctrl_c
from ajet.monitor import output
from ajet.monitor.output import SteadyStream, log_stream, steady_output


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError("gone")


def test_a_stream_that_fails_drops_the_text_and_warns_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream = SteadyStream(Broken())
    assert stream.write("one") == 3
    stream.writelines(["two", "three"])
    assert caplog.text.count("output is lost from here on: gone") == 1


def test_a_closed_stream_raises_nothing() -> None:
    closed = io.StringIO()
    closed.close()
    stream = SteadyStream(closed)
    stream.write("text")
    stream.flush()


def test_a_character_that_the_encoding_lacks_becomes_a_question_mark() -> None:
    raw = io.BytesIO()
    stream = SteadyStream(io.TextIOWrapper(raw, encoding="ascii"))
    stream.write("a → b\n")
    stream.flush()
    assert raw.getvalue() == b"a ? b\n"
    assert stream.encoding == "ascii"


def test_a_pipe_that_nobody_reads_is_not_waited_for_again_and_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(output, "READER_PATIENCE_S", 0.05)
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as reader, open(write_end, "w", encoding="utf-8") as writer:
        stream = SteadyStream(writer)
        for _ in range(1000):
            stream.write("ü" * 999 + "\n")
        assert caplog.text.count("nobody reads the output") == 1
        first = reader.read1(10_000_000).decode()
        stream.write("last")
        rest = reader.read1(10_000_000).decode()
    lost = 1000 * 1000 - len(first)
    assert lost > 0
    assert rest == f"\n({lost} characters were not read and are left out)\nlast"


def test_a_stream_of_text_takes_no_bytes() -> None:
    read_end, write_end = os.pipe()
    writer = open(write_end, "w", encoding="utf-8")  # noqa: SIM115
    with open(read_end, "rb"), writer, pytest.raises(TypeError):
        SteadyStream(writer).write(b"")  # type: ignore[arg-type]


def test_log_lines_go_where_they_went_at_the_start() -> None:
    before = sys.stdout, sys.stderr
    with steady_output():
        start = sys.stderr
        with contextlib.redirect_stderr(io.StringIO()):
            assert log_stream() is start
        sys.stdout = io.StringIO()  # as threads leave it that redirect it at once
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("is_run", [False, True])
def test_only_a_run_tells_that_its_reader_went_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_run: bool
) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)  # as `| head` does
    with open(write_end, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        run = steady_output() if is_run else contextlib.nullcontext()
        with steady_output(is_of_run=False), run:  # that of the command first
            sys.stdout.write("text\n")
            sys.stdout.flush()
    assert ("output is lost from here on" in caplog.text) == is_run


class Unreachable(logging.Handler):
    """As a handler that posts to a chat does where its server is not there."""

    def emit(self, record: logging.LogRecord) -> None:
        raise ConnectionError("no route to host")


def test_a_log_handler_that_fails_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("ajet.training.loop")
    handle = logging.Handler.handle
    places = [logging.getLogger(), logging.getLogger("ajet"), log]
    faulty = [Unreachable() for _ in places]
    for place, handler in zip(places, faulty, strict=True):
        place.handlers.insert(0, handler)
    try:
        with guarded_log_handlers():
            for number in range(3):
                log.warning("line %d", number)
        with pytest.raises(ConnectionError):
            log.warning("after the block")
    finally:
        for place, handler in zip(places, faulty, strict=True):
            place.removeHandler(handler)
    lines = [record for record in caplog.messages if record.startswith("line ")]
    assert lines == ["line 0", "line 1", "line 2"]
    named = [message for message in caplog.messages if "the log handler Unreachable" in message]
    assert len(named) == len(faulty)
    assert named[0].endswith("ConnectionError: no route to host")
    assert logging.Handler.handle is handle


def test_a_hard_exit_is_a_system_exit() -> None:
    exit_now = os._exit
    with hard_exits_raise(), pytest.raises(SystemExit, match=r"os\._exit\(0\) was called"):
        os._exit(0)
    assert os._exit is exit_now


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGXCPU])
def test_a_closed_terminal_and_sigterm_count_as_ctrl_c(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # under `nohup`, SIGHUP would be ignored
    try:
        with pytest.raises(KeyboardInterrupt), sigterm_as_ctrl_c():
            signal.raise_signal(number)
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGXCPU])
def test_a_signal_that_is_ignored_stays_ignored(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with sigterm_as_ctrl_c():
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_in_a_finalizer_is_not_lost(number: signal.Signals) -> None:
    class Interrupts:
        def __del__(self) -> None:
            signal.raise_signal(number)

    dropped = Interrupts()
    with pytest.raises(KeyboardInterrupt), sigterm_as_ctrl_c():
        del dropped
        time.sleep(20)


def test_a_limit_of_cpu_time_interrupts_once() -> None:
    with pytest.raises(KeyboardInterrupt), sigterm_as_ctrl_c():
        try:
            signal.raise_signal(signal.SIGXCPU)
        finally:
            signal.raise_signal(signal.SIGXCPU)
            has_come_back = True
    assert has_come_back
