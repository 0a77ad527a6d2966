"""A real Chromium, driven by Playwright, and a viewer in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
MISSING = (
    None
    if CHROMIUM and find_spec("playwright") and find_spec("axe_playwright_python")
    else "needs Chromium, Playwright and axe: make test-browser installs them"
)


@contextmanager
def viewer_process(place: Path) -> Iterator[str]:
    """`ajet view`; yields the link that it prints."""
    command = [sys.executable, "-m", "ajet.cli", "view", str(place)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(60)


def axe_source() -> str:
    """The script of axe-core."""
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
