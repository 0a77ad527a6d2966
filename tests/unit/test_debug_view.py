"""How an episode is printed.

1. What is trained is marked, token by token as the mask says, and shown whole; long context is cut.
2. No line is wider than the terminal, and what a model sampled cannot control it.
3. Without a sample the messages are shown; a failure with the user's traceback, unwrapped.
"""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from ajet.backbone.debug.view import show_episode, show_problem, show_text_episode
from ajet.schema.episode import Episode, Failure
from tests.unit.monitor_records import make_episode


def shown(episode: Episode, *, width: int = 80, word: str = "w{}") -> list[str]:
    """The lines of an episode whose token 7 is the word `w7`."""
    console = Console(file=io.StringIO(), width=width)
    show_episode(
        console, episode, "task t", lambda ids: " ".join(word.format(token) for token in ids)
    )
    return lines_of(console)


def lines_of(console: Console) -> list[str]:
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.splitlines()


def test_what_the_mask_says_is_marked():
    sample = make_episode().samples[0]
    lines = shown(make_episode())
    marked = " ".join(line.removeprefix("▌ ") for line in lines if line.startswith("▌ "))
    assert marked.split() == [f"w{token}" for token in sample.ids[sample.loss_mask]]
    unmarked = " ".join(line for line in lines if line.startswith("  w"))
    assert unmarked.split() == [f"w{token}" for token in sample.ids[~sample.loss_mask]]
    assert f"sample 1: {len(sample)} tokens, 15 trained (▌ calls 0, 1, 2)" in lines


def test_two_calls_that_meet_are_two_runs():
    episode = make_episode()
    sample = episode.samples[0]
    sample.call_index[:] = [0] * 10 + [1] * (len(sample) - 10)
    assert sum(line.startswith("▌ w") for line in shown(episode)) == 2


def test_calls_are_listed_with_their_tokens_and_what_they_continue():
    lines = shown(make_episode())
    rows = [line.split() for line in lines[2:6]]
    assert rows[0] == ["call", "prompt", "new", "sampled", "agent", "finish", "timeline"]
    assert rows[1] == ["0", "3", "3", "5", "solver", "stop", "first_call"]
    assert rows[3][-2:] == ["continues", "1"]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_terminal(width):
    assert max(map(len, shown(make_episode(), width=width, word="w" * 200 + "{}"))) <= width


def test_long_context_is_cut_and_what_is_trained_is_not():
    episode = make_episode(solved=False)
    sample = episode.samples[0]
    sample.ids = np.arange(1000, dtype=np.int32)
    sample.loss_mask = sample.ids >= 500
    sample.call_index = np.where(sample.loss_mask, 0, -1).astype(np.int32)
    text = " ".join(shown(episode)).split()
    assert "w499" in text
    assert "w250" not in text
    assert all(f"w{token}" in text for token in range(500, 1000))


def test_control_characters_are_written_out():
    assert "\\x1b[2J" in "\n".join(shown(make_episode(), word="\x1b[2J{}"))
    console = Console(file=io.StringIO(), width=80)
    show_problem(console, "agent \x07")
    assert lines_of(console)[0].rstrip() == "! agent \\x07"


def test_a_failed_episode_shows_messages_and_the_traceback_unwrapped():
    place = f'  File "/{"long/" * 30}agent.py", line 10'
    failure = Failure(kind="workflow_error", message="KeyError: 'x'", traceback=f"{place}\n")
    lines = shown(replace(make_episode(), samples=[], failure=failure, reward=None))
    assert any(line.startswith("assistant  Answer: 49") for line in lines)
    assert place in lines
    assert lines[-1] == "= failed: workflow_error: KeyError: 'x'"


def test_where_only_text_is_known_messages_are_shown_and_no_tokens():
    console = Console(file=io.StringIO(), width=80)
    show_text_episode(console, make_episode(), "task t")
    lines = lines_of(console)
    assert lines[-1] == "= success, reward 1, 3 calls"
    assert not any("sampled" in line for line in lines)
