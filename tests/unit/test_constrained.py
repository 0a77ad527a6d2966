"""Completions under a grammar, from the call to what the trainer gets.

1. A sample says which of its tokens were sampled under a grammar, always from the completion's
   first token on, also where another timeline leaves the completion midway or a limit cuts it.
2. Where the trainer cannot compute the logprobs again, the setting is refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ajet.config.loading.load import load_config
from ajet.context_tracker.samples import SampleLimits, build_samples
from ajet.errors import ConfigError
from ajet.launcher.backbones import refuse_settings
from ajet.schema.episode import Call, GrammarSpan

DEMO = Path(__file__).resolve().parents[2] / "tutorial/example_math_agent/math_agent_cpu.yaml"


def call(index: int, prompt: list[int], completion: list[int], grammar: str = "") -> Call:
    return Call(
        call_id=f"c{index}",
        index=index,
        agent_name="a",
        target_tag="a",
        trained=True,
        parent_id=None,
        new_timeline="first_call",
        prompt_length=len(prompt),
        delta_ids=np.array(prompt, np.int32),
        completion_ids=np.array(completion, np.int32),
        logprobs=np.full(len(completion), -1.0, np.float32),
        policy_versions=np.zeros(len(completion), np.int32),
        temperature=1.0,
        finish_reason="stop",
        grammar=grammar,
    )


def spans_of(
    calls: list[Call], limits: SampleLimits | None = None
) -> list[tuple[GrammarSpan, ...]]:
    samples, _ = build_samples(calls, "e", "t", limits)
    return [sample.grammars for sample in samples]


def span(grammar: str, start: int, stop: int) -> GrammarSpan:
    return GrammarSpan(grammar=grammar, start=start, stop=stop)


def test_a_sample_names_the_completions_with_a_grammar() -> None:
    calls = [call(0, [1, 2], [3, 4], "g"), call(1, [1, 2, 3, 4, 5], [6], ""),
             call(2, [1, 2, 3, 4, 5, 6], [7, 8, 9], "h")]  # fmt: skip
    assert spans_of(calls) == [(span("g", 2, 4), span("h", 6, 9))]


def test_a_completion_that_another_timeline_leaves_midway_is_one_span() -> None:
    calls = [call(0, [1, 2], [3, 4, 5], "g"), call(1, [1, 2, 3, 9], [6], "h")]
    assert spans_of(calls) == [(span("g", 2, 5),), (span("h", 4, 5),)]


@pytest.mark.parametrize(
    ("length", "expected"),
    [(2, (span("g", 2, 4),)), (4, (span("g", 2, 4), span("h", 5, 6))), (1, (span("g", 2, 3),))],
)
def test_a_limit_cuts_the_span_with_the_tokens(
    length: int, expected: tuple[GrammarSpan, ...]
) -> None:
    calls = [call(0, [1, 2], [3, 4], "g"), call(1, [1, 2, 3, 4, 5], [6, 7], "h")]
    assert spans_of(calls, SampleLimits(max_response_length=length)) == [expected]


@pytest.mark.parametrize(
    "overrides",
    [["backbone=verl"], ["backbone=trinity"], ["backbone=local", "rollout.name=vllm"]],
)
def test_a_trainer_that_cannot_compute_the_logprobs_again_is_refused(overrides: list[str]) -> None:
    config = load_config(DEMO, ["rollout.response_format=constrain", *overrides])
    with pytest.raises(ConfigError, match="response_format: constrain needs the backbone local"):
        refuse_settings(config.ajet)


@pytest.mark.parametrize("backbone", ["local", "debug"])
def test_where_the_embedded_engine_samples_it_is_accepted(backbone: str) -> None:
    config = load_config(DEMO, ["rollout.response_format=constrain", f"backbone={backbone}"])
    refuse_settings(config.ajet)
