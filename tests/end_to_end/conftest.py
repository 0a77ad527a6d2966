"""What several end-to-end tests compare with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.command import OPENAI_AGENT, train
from tests.end_to_end.run_folders import NAME


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run that nothing happened to."""
    exp_dir = tmp_path_factory.mktemp("uninterrupted")
    ended = train(exp_dir, OPENAI_AGENT)
    assert ended.code == 0, ended.stderr
    return exp_dir / NAME
