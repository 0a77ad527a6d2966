"""Keeping the latest requests in raw form changes the cost of a look-up, never its result."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ajet.context_tracker.history import MAX_HEADS, History, Match, normalize_messages

contents = st.sampled_from(["a", "b", "", None, [{"type": "text", "text": "a"}]])
calls = st.sampled_from(["{}", '{"x": 1}', '{ "x": 1 }', {"x": 1}])


def message(content: Any, arguments: Any) -> dict[str, Any]:
    if arguments is None:
        return {"role": "user", "content": content}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


messages = st.builds(message, contents, st.none() | calls)
requests = st.lists(
    st.tuples(
        st.integers(0, 30),  # which earlier request it is made of
        st.integers(0, 8),  # how much of that one's head it keeps
        st.booleans(),  # whether that one's answer follows
        st.lists(messages, min_size=1, max_size=3),
        st.booleans(),  # whether it is answered
    ),
    max_size=30,
)


class Agent:
    def __init__(self, *, with_heads: bool) -> None:
        self.history = History()
        self._with_heads = with_heads

    def ask(self, raw: list[dict[str, Any]]) -> Match:
        if not self._with_heads:
            self.history._heads.clear()
        return self.history.find(raw)


@settings(deadline=None)
@given(requests)
def test_kept_requests_change_nothing_that_is_found(requests):
    quick, slow = Agent(with_heads=True), Agent(with_heads=False)
    sent: list[list[dict[str, Any]]] = [[]]
    for number, (which, kept, with_answer, added, is_answered) in enumerate(requests):
        base = sent[which % len(sent)]
        raw = [*base[: max(kept, len(base) - 2)], *([ANSWER] if with_answer else []), *added]
        found, expected = quick.ask(raw), slow.ask(raw)
        assert found.messages == expected.messages == normalize_messages(raw)
        assert found.raw == raw
        for name in ("call_id", "num_messages", "num_known"):
            assert getattr(found, name) == getattr(expected, name), name
        if is_answered:
            sent.append(raw)
            for agent, match in ((quick, found), (slow, expected)):
                agent.history.add(match, normalize_messages([ANSWER])[0], f"c{number}")
        assert len(quick.history._heads) <= MAX_HEADS


ANSWER = {"role": "assistant", "content": "an answer"}


def test_a_request_that_goes_on_is_compared_with_the_kept_one():
    """The control: there is a kept one, and what it has is not made anew."""
    history = History()
    first = history.find([{"role": "user", "content": "a"}])
    history.add(first, normalize_messages([ANSWER])[0], "c0")
    second = history.find([{"role": "user", "content": "a"}, ANSWER, {"role": "user"}])
    assert second.call_id == "c0"
    assert second.messages[0] is first.messages[0]
    history.add(second, normalize_messages([ANSWER])[0], "c1")
    assert list(history._heads.values()) == [second], "the one that it goes on from is replaced"
