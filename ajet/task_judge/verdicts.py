"""Judges that give reasons, and what they have in common: scores, votes, and what they cost."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import fmean
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from ajet.config.sections.model_client import ModelClientConfig
from ajet.config.sections.task_judge import OneJudgeConfig, TaskJudgeConfig
from ajet.errors import EpisodeError
from ajet.model_client import ModelAnswer, ModelClient
from ajet.schema.task import WorkflowOutput, WorkflowTask
from ajet.task_judge.base_judge import BaseJudge

REASONS = "judge"
"""Key of the reasons in the output's metadata; they are recorded and shown from there."""

T = TypeVar("T")


@dataclass(slots=True, kw_only=True, frozen=True)
class Verdict:
    """What a judge says about one episode."""

    reward: float
    is_success: bool
    reasons: dict[str, Any] = field(default_factory=dict)
    """JSON values: scores, words, votes."""

    def given_to(self, output: WorkflowOutput) -> tuple[float, bool]:
        """Reward and success, after the reasons are noted in the output."""
        output.metadata[REASONS] = self.reasons
        return self.reward, self.is_success


class ReasonedJudge(BaseJudge):
    """A judge that says why: a subclass has `verdict`, which may be a coroutine."""

    def compute_reward(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> Any:
        """Reward and success; the reasons are in `workflow_output.metadata["judge"]`."""
        verdict = self.verdict(workflow_task, workflow_output)
        if inspect.isawaitable(verdict):
            return self._later(verdict, workflow_output)
        return verdict.given_to(workflow_output)

    async def _later(self, verdict: Any, output: WorkflowOutput) -> tuple[float, bool]:
        given: Verdict = await verdict
        return given.given_to(output)

    def verdict(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> Any:
        """The verdict about one episode, or a coroutine that gives it."""
        raise NotImplementedError(f"{type(self).__name__} has no verdict()")


class FormBase(BaseModel):
    """Base of the forms that models fill in; JSON schemas in strict mode need no further keys."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


@lru_cache(256)
def several_forms(name: str, low: float, high: float, keys: tuple[str, ...]) -> type[BaseModel]:
    """A form with a reason and a score for each key."""
    one = scored_form(low, high)
    fields: dict[str, Any] = dict.fromkeys(keys, (one, ...))
    return create_model(name, __base__=FormBase, **fields)


def scored_form(low: float, high: float) -> type[BaseModel]:
    """A form with a reason and a score within limits. The reason comes first, to be thought of."""
    return create_model(
        "Score", __base__=FormBase, reason=(str, ...), score=(_Number, Field(ge=low, le=high))
    )


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


# Pydantic reads `true` as 1, and the judge gave no such score.
_Number = Annotated[float, BeforeValidator(_no_truth)]


def judge_model(config: OneJudgeConfig) -> ModelClientConfig:
    """The model that a judge asks, with AgentJet's names for it."""
    if not isinstance(config, TaskJudgeConfig):
        return config.model
    given: dict[str, Any] = {}
    if config.alien_llm_model and not config.model.model:
        given["model"] = config.alien_llm_model
    if config.alien_llm_response_length and not config.model.max_tokens:
        given["max_tokens"] = config.alien_llm_response_length
    return config.model.model_copy(update=given)


def judge_client(config: OneJudgeConfig) -> ModelClient:
    """The client of the model that a judge asks."""
    return ModelClient(judge_model(config), purpose="judge")


def add_usage(usage: MutableMapping[str, float], answers: Iterable[ModelAnswer]) -> None:
    """Add what the answers cost; only numbers, which are summed over a step."""
    for answer in answers:
        costs = {
            "calls": answer.attempts,
            "kept": float(answer.is_kept),
            "retries": max(0, answer.attempts - 1),
            "prompt_tokens": 0 if answer.is_kept else answer.prompt_tokens,
            "completion_tokens": 0 if answer.is_kept else answer.completion_tokens,
            "tokens_with_kept": answer.prompt_tokens + answer.completion_tokens,
        }
        for name, value in costs.items():
            usage[name] = usage.get(name, 0.0) + value


def scaled(score: float, low: float, high: float) -> float:
    """A score as a number from 0 to 1."""
    return (score - low) / (high - low)


def mean(values: Iterable[float]) -> float:
    """The mean of numbers.

    Raises:
        EpisodeError: there is none, or one is not finite.
    """
    numbers = list(values)
    if not numbers or not all(map(math.isfinite, numbers)):
        raise EpisodeError(f"no mean of the scores {numbers}")
    return fmean(numbers)
