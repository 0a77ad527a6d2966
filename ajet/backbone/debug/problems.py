"""Finds what would be wrong with training on an episode. Pure functions that return text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from ajet.context_tracker.chat_format import ChatFormat
from ajet.schema.episode import Call, Episode
from ajet.training.no_gradient import LIMITS

NOT_DECODABLE = "\ufffd"
"""The replacement character: decoded bytes were no valid text."""

BROKEN = {
    "repeated_request": "the same messages were sent before",
    "another_agent": "its messages continue a call of another agent; one context has one "
    "agent_name",
    "history_edited": "its messages leave every recorded history: an earlier one was changed or "
    "dropped",
    "tools_changed": "it continues a call, but with other tools",
    "template_rewrote_history": "the chat format renders earlier turns differently from what was "
    "sampled (for example, it drops earlier thinking)",
}
"""Reasons for a new timeline that users may not expect -> explanation."""


def problems_of(episode: Episode, malformed: Sequence[Call] = ()) -> list[str]:
    """One line per problem of an episode, apart from its own failure.

    Args:
        episode: with its calls and samples.
        malformed: calls whose completion has a tool call that cannot be parsed.
    """
    return [
        *_of_agents(episode),
        *_of_answers(episode, malformed),
        *_of_timelines(episode),
        *_of_samples(episode),
    ]


def problems_of_text(episode: Episode) -> list[str]:
    """The problems that show in an episode of which only messages are known."""
    return [*_of_answers(episode, ()), *_of_timelines(episode)]


def malformed_calls(episode: Episode, chat_format: ChatFormat) -> list[Call]:
    """Calls whose completion has a tool call that cannot be parsed."""
    contexts: dict[str | None, list[int]] = {None: []}
    malformed = []
    for call in episode.calls:
        prompt = contexts[call.parent_id] + call.delta_ids.tolist()
        completion = call.completion_ids.tolist()
        contexts[call.call_id] = prompt + completion
        if chat_format.parse(completion, prompt, call.tools).malformed_tool_calls:
            malformed.append(call)
    return malformed


def problem_of_group(episodes: Sequence[Episode], gives_gradient: bool) -> str | None:
    """Why the repeats of one task give no advantages; None if they do."""
    rewards = [episode.reward for episode in episodes if episode.reward is not None]
    if gives_gradient or len(episodes) < 2 or len(set(rewards)) != 1:
        return None
    if len(rewards) == 1:
        return "only one of the repeats has a reward: there is nothing to compare it with"
    return f"{len(rewards)} repeats with the same reward, {rewards[0]:g}: no gradient"


def _of_agents(episode: Episode) -> Iterator[str]:
    if not episode.calls and not episode.debug_calls and episode.failure is None:
        yield "no model call: the workflow did not use the tuner's model"
    tags: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in episode.calls:
        if not call.trained:
            tags[call.agent_name, call.target_tag].append(call)
    for (agent, tag), calls in tags.items():
        yield (
            f'agent "{agent}" is not trained ({_named(calls)}): its target_tag "{tag}" is not '
            "among the workflow's trainable_targets"
        )
    for agent, number in episode.debug_calls.items():
        how_often = "calls that are not seen here" if number is None else _times(number)
        yield f'agent "{agent}" answers with its debug_model, untrained: {how_often}'


def _of_answers(episode: Episode, malformed: Sequence[Call]) -> Iterator[str]:
    calls = episode.calls
    if cut := [call for call in calls if call.finish_reason == "length"]:
        tokens = max(len(call.completion_ids) for call in cut)
        yield (
            f"{_named(cut)} cut off by length, after up to {tokens} tokens: see "
            "rollout.max_response_length_in_one_turn, or the request's max_tokens"
        )
    if malformed:
        yield (
            f"{_named(malformed)} with a tool call that cannot be parsed: the agent gets it as text"
        )
    if broken := [call for call in calls if NOT_DECODABLE in _text(call)]:
        yield f"{_named(broken)} with bytes that are no text"
    if empty := [call for call in calls if not _text(call) and not call.response.get("tool_calls")]:
        yield f"{_named(empty)} answered with nothing"
    if episode.context_overflows:
        yield (
            f"{_times(episode.context_overflows)} refused: the prompt filled the context "
            "(rollout.max_model_len)"
        )


def _of_timelines(episode: Episode) -> Iterator[str]:
    by_reason: dict[str, list[Call]] = defaultdict(list)
    for call in episode.calls:
        if call.new_timeline in BROKEN:
            by_reason[call.new_timeline].append(call)
    for reason, calls in by_reason.items():
        yield f"{_named(calls)} began a timeline ({reason}): {BROKEN[reason]}"


def _of_samples(episode: Episode) -> Iterator[str]:
    for rule, tokens in episode.dropped_tokens.items():
        if rule in LIMITS:
            yield f"{tokens} sampled tokens are not trained, by {LIMITS[rule]}"
    if episode.failure is None and episode.calls and not episode.samples:
        yield "no token is trained"


def _text(call: Call) -> str:
    return f"{call.response.get('content') or ''}{call.response.get('reasoning_content') or ''}"


def _named(calls: Sequence[Call]) -> str:
    """`call 3`, or `calls 0, 2, 3`."""
    return f"call{'s' * (len(calls) > 1)} {', '.join(str(call.index) for call in calls)}"


def _times(number: int) -> str:
    return f"{number} call{'s' * (number != 1)}"
