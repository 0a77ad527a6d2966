"""Libraries that print and that silence others.

1. What they print is in the file.
2. What they do to the root logger's levels, and to those of its handlers, is undone.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from ajet.backbone.ray_common.output import redirect_output

# The file stays open: what was set up within goes on writing to it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_what_is_printed_goes_to_the_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with redirect_output(tmp_path / "log"):
        print("one")
        print("two", file=sys.stderr)
    print("three")
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
    assert capsys.readouterr().out == "three\n"


def test_a_library_cannot_silence_our_warnings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = logging.getLogger()
    levels = [each.level for each in (root, *root.handlers)]
    with pytest.raises(KeyError), redirect_output(tmp_path / "log"):
        for each in (root, *root.handlers):
            each.setLevel(logging.CRITICAL)
        raise KeyError
    assert [each.level for each in (root, *root.handlers)] == levels
    logging.getLogger("ajet.x").warning("heard")
    assert "heard" in caplog.text
