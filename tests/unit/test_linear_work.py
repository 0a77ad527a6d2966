"""Large episodes cost in proportion to their calls; counted in lines that run, and in memory.

1. A timeline of many calls, timelines that share nothing, and calls that are rendered from scratch:
   four times as many calls (of the last: as many tokens) are about four times as much work.
2. What is recorded grows with the new tokens of a call, not with its prompt.
3. The token tree looks at no other branch to find or to leave one.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import pytest

from ajet.context_tracker.chat_format import ChatFormat
from ajet.context_tracker.samples import TokenTree
from ajet.schema.episode import Call
from benchmarks.tracker import chat_format, run

CHAT = chat_format()


def lines_run(work: Callable[[], object]) -> int:
    """Lines of the package that are executed while it works."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if "/ajet/" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def growth(name: str, calls: int, chat: ChatFormat = CHAT) -> tuple[float, float]:
    """How many times more lines, and more tokens of prompts, four times as many calls are."""
    run(name, 5, chat)
    few, many = (lines_run(lambda n=n: run(name, n, chat)) for n in (calls, 4 * calls))
    tokens = run(name, 4 * calls, chat).tokens / run(name, calls, chat).tokens
    return many / few, tokens


@pytest.mark.parametrize(("name", "calls"), [("long", 100), ("unrelated", 200)])
def test_four_times_the_calls_are_four_times_the_work(name: str, calls: int) -> None:
    lines, _ = growth(name, calls)
    assert 3.6 < lines < 4.4


def test_what_is_rendered_from_scratch_costs_as_its_tokens() -> None:
    lines, tokens = growth("rerendered", 25)
    assert lines < 1.1 * tokens


def test_the_record_of_a_call_does_not_grow_with_its_prompt() -> None:
    kept = []
    sizes = []
    for calls in (100, 400):
        tracemalloc.start()
        kept.append(run("long", calls, CHAT))
        sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    assert sizes[1] < 4.4 * sizes[0]


@pytest.mark.parametrize("thinks", [False, True])
@pytest.mark.parametrize("end", ["answers", "was cut"])
def test_the_end_of_a_prompt_is_enough_to_extend_it(
    monkeypatch: pytest.MonkeyPatch, thinks: bool, end: str
) -> None:
    messages = [{"role": "user", "content": f"question {number}"} for number in range(50)]
    prompt = CHAT.render(messages, None)
    text = ("<think>aha</think>" if thinks else "") + ("yes<|im_end|>" if end == "answers" else "y")
    completion = CHAT.tokenizer.encode(text)
    new = [{"role": "tool", "content": "4"}]
    whole = CHAT.extend(prompt, completion, new, None)
    assert whole
    seen = []
    bridge = CHAT._renderer.bridge_to_next_turn

    def looked(prompt_ids: list[int], *args: Any, **kwargs: Any) -> Any:
        seen.append(len(prompt_ids))
        return bridge(prompt_ids, *args, **kwargs)

    monkeypatch.setattr(CHAT._renderer, "bridge_to_next_turn", looked)
    monkeypatch.setattr("ajet.context_tracker.chat_format._PROMPT_END", 32)
    assert CHAT.extend(prompt, completion, new, None) == whole
    assert seen == [32] and len(prompt) > 500


def call(index: int, prompt: list[int], parent: int | None = None) -> Call:
    ones = np.ones(1, np.float32)
    return Call(
        call_id=f"c{index:06d}",
        index=index,
        agent_name="agent",
        target_tag="agent",
        trained=True,
        parent_id=None if parent is None else f"c{parent:06d}",
        new_timeline=None,
        prompt_length=len(prompt),
        delta_ids=np.array(prompt, np.int32),
        completion_ids=np.zeros(1, np.int32),
        logprobs=-ones,
        policy_versions=np.zeros(1, np.int32),
        temperature=1.0,
        finish_reason="stop",
    )


def apart(count: int) -> list[Call]:
    """Timelines whose first tokens differ."""
    return [call(index, [index + 1, 7, 8]) for index in range(count)]


def chain(count: int) -> list[Call]:
    """One timeline."""
    return [call(index, [index + 1], index - 1 if index else None) for index in range(count)]


def paths_of(calls: list[Call]) -> list[Any]:
    return list(TokenTree(calls).paths())


@pytest.mark.parametrize("calls", [apart, chain])
def test_a_tree_looks_at_no_other_branch(calls: Callable[[int], list[Call]]) -> None:
    few, many = (lines_run(partial(paths_of, calls(count))) for count in (200, 800))
    assert many < 4.1 * few
