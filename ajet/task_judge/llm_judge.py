"""Judges that ask a model: one question with one score, or a rubric with a score per criterion."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from ajet.config.sections.task_judge import CriterionConfig, RubricJudgeConfig, ScoredConfig
from ajet.model_client import ModelAnswer, ModelClient
from ajet.schema.task import WorkflowOutput, WorkflowTask
from ajet.task_judge.judge_prompt import fields_of, judge_messages
from ajet.task_judge.verdicts import (
    ReasonedJudge,
    Verdict,
    add_usage,
    judge_client,
    mean,
    scaled,
    scored_form,
    several_forms,
)

RIGHT = "Does the answer solve the task?"


class LlmJudge(ReasonedJudge):
    """Asks a model one question about an episode; the reward is its mean score, from 0 to 1."""

    holds_place = False

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._settings = config.ajet.task_judge.llm
        self._client = judge_client(config.ajet.task_judge)
        self.holds_place = self._client.is_policy
        self.any_loop = type(self) is LlmJudge
        self._form = scored_form(self._settings.min_score, self._settings.max_score)

    async def verdict(
        self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput
    ) -> Verdict:
        """Ask for all votes at once; the reasons are the model's own words."""
        settings, task = self._settings, workflow_task.task
        fields = fields_of(
            task,
            workflow_output,
            output_key=settings.output_key,
            reference_key=settings.reference_key,
        )
        low, high = settings.min_score, settings.max_score
        question = settings.question or shown(RIGHT, fields, settings)
        asked = f"{question}\n\nThe score is a number from {low:g} (worst) to {high:g} (best)."
        answers = await ask_votes(
            self._client,
            judge_messages(asked, fields),
            self._form,
            settings.votes,
            workflow_task.episode_uuid,
        )
        add_usage(workflow_output.judge_usage, answers)
        reward = mean(scaled(answer.value.score, low, high) for answer in answers)
        votes = [answer.value.model_dump() for answer in answers]
        reasons = {"score": mean(vote["score"] for vote in votes), "votes": votes}
        return Verdict(reward=reward, is_success=reward >= settings.success_at, reasons=reasons)


class RubricJudge(ReasonedJudge):
    """Scores an episode by several criteria; the reward is the weighted mean, from 0 to 1."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        judge = config.ajet.task_judge
        self._client = judge_client(judge)
        self.holds_place = self._client.is_policy
        self.any_loop = type(self) is RubricJudge
        self._settings = judge.rubric

    async def verdict(
        self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput
    ) -> Verdict:
        """Ask for all votes at once; the reasons have the mean score of each criterion."""
        return await rubric_verdict(
            self._client, self._settings, self._settings.criteria, workflow_task, workflow_output
        )


async def rubric_verdict(
    client: ModelClient,
    settings: RubricJudgeConfig | Any,
    criteria: Sequence[CriterionConfig],
    workflow_task: WorkflowTask,
    workflow_output: WorkflowOutput,
    advice: str = "",
) -> Verdict:
    """The verdict of a rubric.

    Args:
        client: asks the model.
        settings: what it sees, the range of scores, votes, and when a task is solved.
        criteria: at least one.
        workflow_task: of the episode.
        workflow_output: of the episode.
        advice: further words for the model.
    """
    fields = fields_of(
        workflow_task.task,
        workflow_output,
        output_key=settings.output_key,
        reference_key=settings.reference_key,
    )
    low, high = settings.min_score, settings.max_score
    names = {f"criterion_{number}": each for number, each in enumerate(criteria, start=1)}
    listed = "\n".join(f"{key} ({c.name}): {c.description}" for key, c in names.items())
    asked = shown("Score the work by each of these criteria.", fields, settings)
    question = (
        f"{asked}\n\nCriteria:\n{listed}\n{advice}\n\n"
        f"Each score is a number from {low:g} (worst) to {high:g} (best)."
    )
    form = several_forms("Scores", low, high, tuple(names))
    answers = await ask_votes(
        client, judge_messages(question, fields), form, settings.votes, workflow_task.episode_uuid
    )
    add_usage(workflow_output.judge_usage, answers)
    scores = {key: mean(getattr(answer.value, key).score for answer in answers) for key in names}
    weight = sum(criterion.weight for criterion in criteria)
    reward = sum(names[key].weight * scaled(score, low, high) for key, score in scores.items())
    reward /= weight
    reasons = {
        "criteria": {
            criterion.name: {
                "score": scores[key],
                "weight": criterion.weight,
                "reasons": [getattr(answer.value, key).reason for answer in answers],
            }
            for key, criterion in names.items()
        },
        "votes": len(answers),
    }
    return Verdict(reward=reward, is_success=reward >= settings.success_at, reasons=reasons)


def shown(question: str, fields: dict[str, str], settings: ScoredConfig) -> str:
    """The question with the fields that the settings let the model see."""
    parts = [question, "Task:\n{query}"]
    if "reference" in fields:
        parts.append("Reference:\n{reference}")
    if settings.see == "trajectory":
        parts.append("All messages of the agent:\n{trajectory}")
    return "\n\n".join([*parts, "Its answer:\n{answer}"])


async def ask_votes(
    client: ModelClient,
    messages: list[dict[str, Any]],
    form: type[BaseModel],
    votes: int,
    session: str,
) -> list[ModelAnswer]:
    """All votes on one question, asked at the same time."""
    questions = [
        client.ask(messages, form=form, sample=vote, session=session) for vote in range(votes)
    ]
    # A task for each is only needed if there are several.
    return [await questions[0]] if votes == 1 else await asyncio.gather(*questions)
