"""Makes tasks: questions about documents, then tasks in the manner of examples.

What a model said is kept on disk by the content of the question. A second start, after a kill or
with other filters, therefore asks only what was not asked before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from ajet.config.sections.task_filters import TaskFilterConfig
from ajet.config.sections.task_reader import DataGenerationConfig
from ajet.data_generation.answer_check import AnswerVerdict, check_of
from ajet.data_generation.chunks import Chunk, chunks_of
from ajet.data_generation.documents import Document, read_documents
from ajet.data_generation.imitations import chosen, chunk_order, imitation_of
from ajet.data_generation.questions import (
    WrittenQuestion,
    WrittenQuestions,
    has_excerpt,
    is_complete,
    question_about,
    rounds_of,
    task_of,
)
from ajet.errors import DataError, ModelBudgetError
from ajet.model_client import PLACE, ModelClient
from ajet.schema.task import Task
from ajet.task_filters.filtering import TaskFilters
from ajet.task_filters.model_questions import Answered, Question, ask_all
from ajet.task_reader.read_tasks import make_task_reader, training_tasks

KEY = "ajet.task_reader.data_generation"
MAX_ROUNDS = 3
"""How often tasks are asked for, to make up for those that filters drop."""
MAX_FAILURE_SHARE = 0.2
"""Share of the questions of a phase that may have no usable answer."""

INCOMPLETE = "no question or no answer"
NO_EXCERPT = "the excerpt is not in the document"
NOT_ANSWERABLE = "the excerpt does not answer it"
WRONG = "the answer is wrong"
NO_VERDICT = "not checked"
TWICE = "the same question again"


@dataclass(slots=True, kw_only=True)
class Material:
    """What tasks are made of."""

    documents: list[Document]
    examples: list[Task]

    @classmethod
    def read(cls, settings: DataGenerationConfig) -> Material:
        """Read documents and examples.

        Raises:
            DataError: one of them cannot be read, or there is neither.
        """
        reader = settings.document_reader
        folder = settings.model.cache_dir
        kept_in = Path(folder) if folder else PLACE.cache_dir
        documents = read_documents(
            reader.document_path, kept_in / "documents" if reader.cache_enabled else None
        )
        has_examples = settings.query_reader.has_source
        examples = training_tasks(make_task_reader(settings.query_reader)) if has_examples else []
        if not documents and not examples:
            raise DataError(
                f"{KEY}: there is nothing to write about: set document_reader.document_path, or "
                "examples in query_reader"
            )
        return cls(documents=documents, examples=list(examples))


@dataclass(slots=True, kw_only=True)
class GeneratedTasks:
    """The tasks, and what became of the others."""

    about_documents: list[Task] = field(default_factory=list)
    like_examples: list[Task] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> number of tasks."""
    num_questions: int = 0
    """Questions that were put to the model."""
    num_kept: int = 0
    """How many of them were answered from disk."""
    stopped: ModelBudgetError | None = None
    """The budget that was used up before the end."""


def generate(settings: DataGenerationConfig, material: Material) -> GeneratedTasks:
    """Let the model write the tasks.

    Raises:
        ConfigError: a filter cannot be loaded, or the model's key is missing.
        ModelCallError: too many questions have no usable answer.
    """
    return _Generation(settings, material).run()


class _Generation:
    def __init__(self, settings: DataGenerationConfig, material: Material) -> None:
        self._settings = settings
        self._examples = material.examples
        reader = settings.document_reader
        self._chunks = chunks_of(material.documents, reader.chunk_size, reader.split_by)
        self._client = ModelClient(settings.model, purpose="data_generation")
        self._filters = TaskFilters.load(_filters(settings), settings.model, f"{KEY}.filters")
        self._filters.remember(material.examples)
        self._result = GeneratedTasks()
        self._ids: set[str] = set()

    def run(self) -> GeneratedTasks:
        result = self._result
        if self._chunks:
            result.about_documents = self._about_documents()
        result.like_examples = self._like_examples([*self._examples, *result.about_documents])
        result.dropped += self._filters.dropped
        return result

    def _about_documents(self) -> list[Task]:
        settings = self._settings
        per_call = settings.questions_per_chunk
        calls = rounds_of(self._chunks, settings.task_num, per_call)
        questions = [question_about(*call, per_call) for call in calls]
        answered = self._ask(questions, WrittenQuestions, "questions about documents")
        tasks: list[Task] = []
        for (chunk, _, _), answer in zip(calls, answered.answers, strict=True):
            written = answer.value.questions if answer else []
            tasks += self._sound([(item, chunk) for item in written], "document")
        return self._kept(tasks)

    def _like_examples(self, examples: Sequence[Task]) -> list[Task]:
        """As many tasks as are wanted; more are asked for where filters drop some."""
        settings, kept, number = self._settings, list[Task](), 0
        order: list[Chunk | None] = [*chunk_order(self._chunks, settings.seed)] or [None]
        for _ in range(MAX_ROUNDS if examples else 0):
            missing = settings.task_num - len(kept)
            if missing <= 0 or self._result.stopped:
                break
            numbers = range(number, number + missing)
            number += missing
            chunks = [order[i % len(order)] for i in numbers]
            questions = [
                imitation_of(chosen(examples, settings.num_examples, settings.seed, i), chunk, i)
                for i, chunk in zip(numbers, chunks, strict=True)
            ]
            answered = self._ask(questions, WrittenQuestion, "tasks like the examples")
            pairs = zip(answered.answers, chunks, strict=True)
            written = [(answer.value, chunk) for answer, chunk in pairs if answer]
            kept += self._kept(self._sound(written, "example"))
        return kept

    def _sound(
        self, written: Sequence[tuple[WrittenQuestion, Chunk | None]], origin: str
    ) -> list[Task]:
        """The tasks that have all parts and whose excerpt is really in the document."""
        tasks = []
        for item, chunk in written:
            task = task_of(item, chunk, origin)
            if not is_complete(task):
                self._result.dropped[INCOMPLETE] += 1
            elif chunk is not None and not has_excerpt(task, chunk.text):
                self._result.dropped[NO_EXCERPT] += 1
            else:
                tasks.append(task)
        return tasks

    def _kept(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks that filters and the check keep; the check is last, because it costs a call."""
        kept = self._right(self._filters.kept(self._without_repeats(tasks)))
        self._ids |= {task.task_id for task in kept}
        return kept

    def _without_repeats(self, tasks: Sequence[Task]) -> list[Task]:
        """Tasks with new questions, also where no filter looks: an id stands for one task."""
        new: dict[str, Task] = {}
        for task in tasks:
            if task.task_id not in self._ids:
                new.setdefault(task.task_id, task)
        self._result.dropped[TWICE] += len(tasks) - len(new)
        return list(new.values())

    def _right(self, kept: list[Task]) -> list[Task]:
        """The tasks whose answer a second call confirms, or all where nothing is checked."""
        if not self._settings.check_answers or not self._chunks or not kept:
            return kept
        answered = self._ask([check_of(task) for task in kept], AnswerVerdict, "check of answers")
        right = []
        for task, answer in zip(kept, answered.answers, strict=True):
            verdict: AnswerVerdict | None = answer.value if answer else None
            if verdict is None:
                self._result.dropped[NO_VERDICT] += 1
            elif not verdict.is_answerable:
                self._result.dropped[NOT_ANSWERABLE] += 1
            elif not verdict.is_right:
                self._result.dropped[WRONG] += 1
            else:
                right.append(task)
        return right

    def _ask(self, questions: Sequence[Question], form: type[BaseModel], what: str) -> Answered:
        answered = ask_all(
            self._client, questions, form=form, what=what, max_failure_share=MAX_FAILURE_SHARE
        )
        self._result.num_questions += len(questions)
        self._result.num_kept += sum(answer.is_kept for answer in answered.answers if answer)
        self._result.stopped = self._result.stopped or answered.stopped
        return answered


def _filters(settings: DataGenerationConfig) -> list[TaskFilterConfig]:
    """The filters in order: similar tasks first, because that costs nothing."""
    filters = []
    if settings.deduplication_filter.enabled:
        params = settings.deduplication_filter.params.model_dump()
        filters.append({"type": "deduplication", "params": params})
    if settings.document_reader.languages:
        params = {"languages": settings.document_reader.languages}
        filters.append({"type": "language", "params": params})
    own = [TaskFilterConfig.model_validate(item) for item in filters]
    return [*own, *settings.filters]
