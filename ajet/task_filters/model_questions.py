"""Asks a model many questions at once, and shows how far it is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ajet.errors import ModelBudgetError, ModelCallError
from ajet.model_client import ModelAnswer, ModelClient

logger = logging.getLogger(__name__)

REPORT_EVERY_S = 5.0
FEW = 3
"""So many failures are accepted where some are, however few questions there are."""

Question = Sequence[Mapping[str, Any]]


@dataclass(slots=True, kw_only=True)
class Answered:
    """The answers to many questions."""

    answers: list[ModelAnswer | None]
    """In the order of the questions; None: there is none."""
    stopped: ModelBudgetError | None = None
    """Why questions were not asked any more: the budget is used up."""


def ask_all(
    client: ModelClient,
    questions: Sequence[Question],
    *,
    form: type[BaseModel] | None,
    what: str,
    max_failure_share: float = 0.0,
) -> Answered:
    """Ask all questions, as many at the same time as the client allows.

    Answers are kept on disk, so that a second start asks only the rest.

    Args:
        client: the model.
        questions: each a list of messages.
        form: the form of the answers; None: text.
        what: what is done, for the log.
        max_failure_share: share of the questions that may have no usable answer.

    Raises:
        ModelCallError: more questions have no usable answer.
    """
    return asyncio.run(_ask_all(client, questions, form, what, max_failure_share))


async def _ask_all(
    client: ModelClient,
    questions: Sequence[Question],
    form: type[BaseModel] | None,
    what: str,
    max_failure_share: float,
) -> Answered:
    progress = QuestionProgress(what, len(questions))
    result = Answered(answers=[None] * len(questions))
    accepted = max(FEW, int(max_failure_share * len(questions))) if max_failure_share else 0
    failures = 0

    async def ask(index: int) -> None:
        nonlocal failures
        try:
            result.answers[index] = answer = await client.ask(questions[index], form=form)
            progress.add(answer)
        except ModelBudgetError as error:
            result.stopped = error
        except ModelCallError as error:
            failures += 1
            if failures > min(accepted, len(questions) - 1):
                raise
            logger.warning("%s: question %d has no answer: %s", what, index, error)

    tasks = [asyncio.create_task(ask(index)) for index in range(len(questions))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return result


class QuestionProgress:
    """Logs how many questions are answered, now and then and at the end.

    Args:
        what: what is done.
        total: number of questions.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._num_done = self._num_kept = self._num_tokens = 0
        self._next_report_s = time.monotonic() + REPORT_EVERY_S

    def add(self, answer: ModelAnswer) -> None:
        """Count an answer."""
        self._num_done += 1
        self._num_kept += answer.is_kept
        if not answer.is_kept:
            self._num_tokens += answer.prompt_tokens + answer.completion_tokens
        if self._num_done == self._total or time.monotonic() > self._next_report_s:
            self._next_report_s = time.monotonic() + REPORT_EVERY_S
            logger.info(
                "%s: %d of %d answered, %d of them from disk; %s tokens",
                self._what,
                self._num_done,
                self._total,
                self._num_kept,
                f"{self._num_tokens:,}",
            )
