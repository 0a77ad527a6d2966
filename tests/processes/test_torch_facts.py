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
    slow = ask_torch(timeout_s=0.3)
    assert slow.error == "the import took more than 0 s"
    assert slow.is_slow
    (tmp_path / "torch.py").write_text("raise ImportError('libfoo.so')")
    broken = ask_torch()
    assert broken.error == "ImportError: libfoo.so"
    assert not broken.is_slow
