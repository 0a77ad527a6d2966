"""The log file of a run on a disk that is full."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ajet.monitor.output import FileHandler

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="there is no device that is always full")
def test_a_full_disk_neither_shows_a_traceback_nor_ends_the_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = FileHandler(FULL)
    file.handle(logging.makeLogRecord({"msg": "a line"}))
    file.close()
    assert capsys.readouterr() == ("", "")
    file = FileHandler(FULL)
    file.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
    file.close()
    assert "Logging error" in capsys.readouterr().err, "a mistake of ours is still shown"
