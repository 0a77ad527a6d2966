"""docs/agents.md: its excerpts are parts of the example files, and its own code runs."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.episode_fakes import attempt_of, runner_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "agents.md").read_text()
EXAMPLES = ROOT / "tutorial" / "example_math_agent"

BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
EXCERPTS = re.findall(r"`(math_agent\w*\.py)`:?\n\n```python\n(.*?)```", PAGE, re.DOTALL)


def own_code() -> str:
    """All code blocks that are not excerpts, joined."""
    excerpts = {code for _, code in EXCERPTS}
    return "\n".join(block for block in BLOCKS if block not in excerpts)


def test_the_page_shows_five_of_the_examples() -> None:
    assert len({name for name, _ in EXCERPTS}) == 5


@pytest.mark.parametrize(("name", "code"), EXCERPTS, ids=[name for name, _ in EXCERPTS])
def test_an_excerpt_stands_in_its_example(name: str, code: str) -> None:
    lines = {line.strip() for line in (EXAMPLES / name).read_text().splitlines()}
    assert [line for line in code.splitlines() if line.strip() not in lines] == []


def test_the_pages_own_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {"__name__": "docs_agents"}
    exec(own_code(), names)  # the last block asserts what it claims
    parallel = asyncio.run(runner_of(names["Parallel"]).run(attempt_of()))
    assert (parallel.failure, len(parallel.calls), parallel.reward_per) == (None, 3, "call")
    debate = asyncio.run(runner_of(names["Debate"]).run(attempt_of()))
    assert debate.failure is None
    assert [call.trained for call in debate.calls] == [True, True, False]
    assert debate.reward_per == "agent"

    class Examined(names["Examined"]):  # type: ignore[misc]
        trainable_targets: list[str] | None = None  # so that no debug model is called

    episode = asyncio.run(runner_of(Examined).run(attempt_of()))
    assert (episode.failure, len(episode.calls), episode.reward) == (None, 2, 0.0)
