"""Asks a model many questions at once, and shows how far it is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from ajet.model_client import ModelAnswer, ModelClient

logger = logging.getLogger(__name__)

REPORT_EVERY_S = 5.0

Question = Sequence[Mapping[str, Any]]


def ask_all(
    client: ModelClient,
    questions: Sequence[Question],
    *,
    form: type[BaseModel] | None,
    what: str,
) -> list[ModelAnswer]:
    """The answers, in the order of the questions.

    The first error ends it: what was answered until then is kept on disk, so that a second start
    asks only the rest.

    Args:
        client: limits how many questions are asked at the same time.
        questions: each a list of messages.
        form: the form of the answers; None: text.
        what: what is done, for the log.

    Raises:
        ModelBudgetError: the budget is used up.
        ModelCallError: a question has no usable answer.
    """
    return asyncio.run(_ask_all(client, questions, form, what))


async def _ask_all(
    client: ModelClient,
    questions: Sequence[Question],
    form: type[BaseModel] | None,
    what: str,
) -> list[ModelAnswer]:
    progress = QuestionProgress(what, len(questions))

    async def ask(question: Question) -> ModelAnswer:
        answer = await client.ask(question, form=form)
        progress.add(answer)
        return answer

    tasks = [asyncio.create_task(ask(question)) for question in questions]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
                "%s: %d of %d answered, %d of them from disk, %s tokens",
                self._what,
                self._num_done,
                self._total,
                self._num_kept,
                f"{self._num_tokens:,}",
            )
