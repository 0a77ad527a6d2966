"""Without Trinity-RFT there is nothing to test here."""

from __future__ import annotations

from importlib.util import find_spec

if not find_spec("trinity"):
    collect_ignore_glob = ["test_*.py"]
