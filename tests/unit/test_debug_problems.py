"""What a debug run says about an episode.

1. An episode with nothing wrong gets no line.
2. Each thing that would be wrong with training on it gets one line, which names the calls.
3. Repeats that give no gradient are named; one episode by itself is not compared.
"""

from dataclasses import replace

import pytest

from ajet.backbone.debug.problems import (
    malformed_calls,
    problem_of_group,
    problems_of,
    problems_of_text,
)
from ajet.context_tracker.chat_format import ParsedMessage
from ajet.schema.episode import Episode, Failure
from tests.unit.episode_fakes import ByteFormat
from tests.unit.monitor_records import make_episode


def changed(index: int, **fields: object) -> Episode:
    """An episode in which one call is otherwise."""
    episode = make_episode()
    episode.calls[index] = replace(episode.calls[index], **fields)
    return episode


def the_problem_of(episode: Episode) -> str:
    [problem] = problems_of(episode)
    return problem


@pytest.mark.parametrize("solved", [True, False])
def test_an_episode_with_nothing_wrong_has_no_problem(solved):
    assert problems_of(make_episode(solved=solved)) == []


def test_a_failure_is_no_problem_by_itself():
    failure = Failure(kind="workflow_error", message="KeyError: 'x'")
    episode = replace(make_episode(), samples=[], reward=None, failure=failure)
    episode.dropped_tokens = {"failed_episode": 15}
    assert problems_of(episode) == []
    assert problems_of(replace(episode, calls=[])) == []


def test_a_workflow_without_a_call_is_named():
    assert "no model call" in the_problem_of(replace(make_episode(), calls=[], samples=[]))


def test_an_agent_that_is_not_trained_is_named_with_its_tag():
    problem = the_problem_of(changed(1, trained=False, agent_name="critic", target_tag="critics"))
    assert problem.startswith('agent "critic" is not trained (call 1)')
    assert '"critics"' in problem


@pytest.mark.parametrize(("number", "text"), [(1, "1 call"), (2, "2 calls"), (None, "not seen")])
def test_calls_of_a_debug_model_are_named(number, text):
    problem = the_problem_of(replace(make_episode(), debug_calls={"critic": number}))
    assert problem.startswith('agent "critic" answers with its debug_model')
    assert text in problem


def test_completions_that_were_cut_are_named():
    episode = changed(0, finish_reason="length")
    episode.calls[2].finish_reason = "length"
    assert the_problem_of(episode).startswith("calls 0, 2 cut off by length, after up to 5 tokens")


def test_an_answer_that_is_no_text_is_named():
    answer = {"role": "assistant", "content": "Answer: 4\ufffd"}
    assert the_problem_of(changed(2, response=answer)) == "call 2 with bytes that are no text"


def test_an_answer_with_nothing_in_it_is_named_unless_it_calls_a_tool():
    nothing = {"role": "assistant", "content": None}
    assert the_problem_of(changed(2, response=nothing)) == "call 2 answered with nothing"


def test_an_overflow_of_the_context_is_named():
    assert the_problem_of(replace(make_episode(), context_overflows=2)).startswith(
        "2 calls refused"
    )


@pytest.mark.parametrize(
    "reason",
    [
        "repeated_request",
        "another_agent",
        "history_edited",
        "tools_changed",
        "template_rewrote_history",
    ],
)
def test_a_timeline_that_was_broken_is_named_with_the_reason(reason):
    problem = the_problem_of(changed(1, parent_id=None, new_timeline=reason))
    assert problem.startswith(f"call 1 began a timeline ({reason}): ")


@pytest.mark.parametrize("reason", ["first_call", "new_conversation"])
def test_a_timeline_that_is_to_be_expected_is_no_problem(reason):
    assert problems_of(changed(1, parent_id=None, new_timeline=reason)) == []


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ("max_prompt_length", "data.max_prompt_length"),
        ("max_response_length", "data.max_response_length"),
        ("max_sample_per_task", "rollout.multi_turn.max_sample_per_task"),
    ],
)
def test_what_a_limit_dropped_is_named_with_the_setting(rule, key):
    problem = the_problem_of(replace(make_episode(), dropped_tokens={rule: 7}))
    assert problem.startswith("7 sampled tokens are not trained")
    assert key in problem


def test_an_episode_without_a_trained_token_is_named():
    assert the_problem_of(replace(make_episode(), samples=[])) == "no token is trained"


def test_a_tool_call_that_cannot_be_parsed_is_named():
    class Strict(ByteFormat):
        def parse(self, completion_ids: list[int], prompt_ids: list[int], tools: object) -> object:
            prompts.append(prompt_ids)
            return ParsedMessage(content="", malformed_tool_calls=len(prompts) == 2)

    prompts: list[list[int]] = []
    episode = make_episode()
    malformed = malformed_calls(episode, Strict())  # type: ignore[arg-type]
    assert [len(prompt) for prompt in prompts] == [call.prompt_length for call in episode.calls]
    assert problems_of(episode, malformed) == [
        "call 1 with a tool call that cannot be parsed: the agent gets it as text"
    ]


def test_of_text_only_nothing_is_said_of_tokens():
    episode = replace(changed(0, trained=False, finish_reason="length"), samples=[])
    assert len(problems_of(episode)) == 3
    [problem] = problems_of_text(episode)
    assert "cut off by length" in problem


def test_repeats_without_a_gradient_are_named():
    episodes = [make_episode(repeat_index=i) for i in range(3)]
    assert problem_of_group(episodes, False) == "3 repeats with the same reward, 1: no gradient"
    assert problem_of_group(episodes, True) is None
    assert problem_of_group(episodes[:1], False) is None
    assert problem_of_group([*episodes, make_episode(solved=False)], False) is None
    for episode in episodes[1:]:
        episode.reward = None  # failed
    assert "nothing to compare it with" in str(problem_of_group(episodes, False))
