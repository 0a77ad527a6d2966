"""Torch is asked in a process of its own, and whatever happens there is an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from ajet.diagnostics.torch_facts import ask_torch


def test_torch_that_takes_too_long_or_is_broken_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert ask_torch(timeout_s=0.3).error == "the import took more than 0 s"
    (tmp_path / "torch.py").write_text("raise ImportError('libfoo.so')")
    assert ask_torch().error == "ImportError: libfoo.so"
