"""Compares the episodes of a task with each other: which are better, and by how much.

The idea is RULER, of OpenPipe's library ART: a model that sees all answers to a task at once only
has to tell which are better, which is easier than a score on an absolute scale; and advantages of a
group need no more. Here, in addition: equal answers are shown once and get equal scores; the order
is shuffled by a seed, differently for each vote, because models prefer what they see first; and a
group that is too large for one comparison is compared in parts. All parts share one answer, the
anchor: the scores of a part are shifted until its anchor has the score of the first part.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from ajet.config.sections.task_judge import RelativeJudgeConfig, ScoredConfig
from ajet.model_client import ModelAnswer, ModelClient
from ajet.schema.task import Task, WorkflowOutput, WorkflowTask
from ajet.task_judge.base_judge import BaseGroupJudge
from ajet.task_judge.judge_prompt import SYSTEM, as_text, fields_of, mark_of, marked
from ajet.task_judge.verdicts import (
    REASONS,
    add_usage,
    judge_client,
    mean,
    several_forms,
)


class RelativeJudge(BaseGroupJudge):
    """Asks a model to compare all episodes of a task; rewards are from 0 to 1, ties included.

    A group of one, as in validation, gets the score that the model gives without a comparison.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        judge = config.ajet.task_judge
        self._settings: RelativeJudgeConfig = judge.relative
        self._client = judge_client(judge)

    async def compute_rewards(
        self, workflow_task: WorkflowTask, workflow_outputs: Sequence[WorkflowOutput]
    ) -> list[tuple[float, bool]]:
        """Compare the outputs; the reasons are the model's own words about each."""
        settings = self._settings
        comparison = Comparison(
            client=self._client,
            settings=settings,
            question=settings.question,
            max_at_once=settings.max_at_once,
            seed=settings.seed,
        )
        return await comparison.rewards(workflow_task, workflow_outputs)


class Comparison:
    """Compares answers to one question.

    Args:
        client: asks the model.
        settings: what it sees, votes, and when a task is solved.
        question: what the model compares by.
        max_at_once: answers in one call.
        seed: of the order in which they are shown.
    """

    def __init__(
        self,
        *,
        client: ModelClient,
        settings: ScoredConfig,
        question: str,
        max_at_once: int = 8,
        seed: int = 0,
    ) -> None:
        self._client = client
        self._settings = settings
        self._question = question
        self._max_at_once = max_at_once
        self._seed = seed

    async def rewards(
        self, workflow_task: WorkflowTask, outputs: Sequence[WorkflowOutput]
    ) -> list[tuple[float, bool]]:
        """Reward and success of each output, with the reasons noted in it."""
        settings, task = self._settings, workflow_task.task
        texts = [self._text(task, output) for output in outputs]
        unique = list(dict.fromkeys(texts))
        session = workflow_task.episode_uuid
        votes = await asyncio.gather(
            *(self._vote(task, unique, vote, session) for vote in range(settings.votes))
        )
        add_usage(outputs[0].judge_usage, [answer for _, answers in votes for answer in answers])
        rewards = []
        for output, text in zip(outputs, texts, strict=True):
            number = unique.index(text)
            said = [found[number] for found, _ in votes]
            reward = mean(score for score, _ in said)
            output.metadata[REASONS] = {
                "score": reward,
                "compared_with": len(unique) - 1,
                "votes": [{"score": score, "reason": reason} for score, reason in said],
            }
            rewards.append((reward, reward >= settings.success_at))
        return rewards

    def _text(self, task: Task, output: WorkflowOutput) -> str:
        settings = self._settings
        fields = fields_of(
            task, output, output_key=settings.output_key, reference_key=settings.reference_key
        )
        if settings.see == "trajectory":
            return f"{fields['trajectory']}\n\n[final answer]\n{fields['answer']}"
        return fields["answer"]

    async def _vote(
        self, task: Task, texts: list[str], vote: int, session: str
    ) -> tuple[list[tuple[float, str]], list[ModelAnswer]]:
        """Score and reason of each text, and what the model said."""
        order = random.Random(f"{self._seed}/{task.task_id}/{vote}")
        numbers = list(range(len(texts)))
        order.shuffle(numbers)
        anchor, others = numbers[0], numbers[1:]
        size = self._max_at_once - 1
        parts = [[anchor, *others[i : i + size]] for i in range(0, len(others), size)] or [[anchor]]
        for part in parts:
            order.shuffle(part)
        answers = await asyncio.gather(
            *(self._ask(task, [texts[n] for n in part], vote, session) for part in parts)
        )
        found: dict[int, tuple[float, str]] = {}
        shift = 0.0
        for part, answer in zip(parts, answers, strict=True):
            said = [getattr(answer.value, f"answer_{place + 1}") for place in range(len(part))]
            if anchor in found:
                shift = found[anchor][0] - said[part.index(anchor)].score
            for number, each in zip(part, said, strict=True):
                score = min(1.0, max(0.0, each.score + shift))
                found.setdefault(number, (score, each.reason))
        return [found[number] for number in range(len(texts))], list(answers)

    async def _ask(self, task: Task, texts: list[str], vote: int, session: str) -> ModelAnswer:
        reference = task.metadata.get(self._settings.reference_key)
        known = [task.main_query, *([] if reference is None else [as_text(reference)])]
        mark = mark_of([*known, *texts])
        parts = [self._question, marked("query", task.main_query, mark)]
        if reference is not None:
            parts.append(marked("reference", as_text(reference), mark))
        parts += [marked(f"answer_{n}", text, mark) for n, text in enumerate(texts, start=1)]
        parts.append(
            "Give each answer a score from 0 (worst) to 1 (best), so that a better answer has a "
            "higher score. Answers of the same quality get the same score."
        )
        messages = [
            {"role": "system", "content": SYSTEM.format(mark=mark)},
            {"role": "user", "content": "\n\n".join(parts)},
        ]
        names = tuple(f"answer_{n}" for n in range(1, len(texts) + 1))
        form = several_forms("Comparison", 0, 1, names)
        return await self._client.ask(messages, form=form, sample=vote, session=session)
