"""Similar queries: found by the character sequences that they share, or by embeddings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ajet.errors import MissingExtraError
from ajet.model_client.embeddings import EmbeddingModel
from ajet.schema.task import Task
from ajet.task_filters.filtering import FilterContext

NUM_PERMUTATIONS = 128
SHINGLE = 4
"""Characters of the sequences that are compared."""
FEW_MISSES = (0.1, 0.9)
"""Weights of wrong and of missed candidates in the index; candidates are compared exactly."""
SHORT_ANSWER = 40
"""Characters of an answer that tells tasks apart; longer ones differ in their words alone."""


class SimilarTexts(Protocol):
    """Texts that were added, and which of them are similar to a new one."""

    def prepare(self, texts: Sequence[str]) -> None:
        """Get ready for texts that are about to be compared."""

    def similar(self, text: str) -> Iterable[int]:
        """The numbers of similar texts, counted from 0 in the order in which they were added."""

    def add(self, text: str) -> None:
        """Add a text."""


@dataclass(slots=True, kw_only=True, frozen=True)
class _Known:
    text: str
    numbers: list[str]
    answer: str


class DeduplicationFilter:
    """Of similar queries, keeps the first. A query counts with what the user said before it.

    Queries with different numbers or different short answers are not similar: `3 + 4` is another
    task than `3 + 5`, and the capital of France is another question than that of Spain.
    """

    def __init__(self, context: FilterContext) -> None:
        threshold = context.params.similarity_threshold
        if context.params.model is None:
            self._texts: SimilarTexts = SharedSequences(threshold)
        else:
            self._texts = SimilarEmbeddings(_embedding_model(context), threshold)
        self._known: list[_Known] = []
        self._exact: set[str] = set()

    def remember(self, tasks: Sequence[Task]) -> None:
        """Note tasks that are kept already."""
        self.keep_all(tasks)

    def keep_all(self, tasks: Sequence[Task]) -> list[bool]:
        """Whether each task is kept: not if a similar one came before it."""
        texts = [text_of_task(task) for task in tasks]
        self._texts.prepare(texts)
        return [self._add(text, task) for text, task in zip(texts, tasks, strict=True)]

    def _add(self, text: str, task: Task) -> bool:
        if text.casefold() in self._exact:
            return False
        new = _Known(text=text, numbers=_numbers(text), answer=_short_answer(task))
        if any(_is_same(new, self._known[number]) for number in self._texts.similar(text)):
            return False
        self._texts.add(text)
        self._known.append(new)
        self._exact.add(text.casefold())
        return True


class SharedSequences:
    """Texts are similar if the share of their common character sequences (Dice) is high.

    Candidates come from an index of MinHashes, so that each text is compared with few others.

    Args:
        threshold: share from which on two texts are similar.
    """

    def __init__(self, threshold: float) -> None:
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError as error:
            raise MissingExtraError("datasketch", "data") from error
        self._threshold = threshold
        self._minhash = MinHash
        # The index takes no threshold of 0 or 1, and measures as Jaccard did.
        limit = min(max(threshold / (2 - threshold), 0.05), 0.99)
        self._index: Any = MinHashLSH(limit, NUM_PERMUTATIONS, weights=FEW_MISSES)
        self._added: list[set[str]] = []

    def prepare(self, texts: Sequence[str]) -> None:
        """Nothing is needed."""

    def similar(self, text: str) -> Iterable[int]:
        """The numbers of similar texts."""
        shingles = _shingles(text)
        for number in self._index.query(self._hashed(shingles)):
            other = self._added[number]
            if 2 * len(shingles & other) >= self._threshold * (len(shingles) + len(other)):
                yield number

    def add(self, text: str) -> None:
        """Add a text."""
        shingles = _shingles(text)
        self._index.insert(len(self._added), self._hashed(shingles))
        self._added.append(shingles)

    def _hashed(self, shingles: set[str]) -> Any:
        minhash = self._minhash(NUM_PERMUTATIONS)
        minhash.update_batch([shingle.encode() for shingle in shingles])
        return minhash


class SimilarEmbeddings:
    """Texts are similar if the cosine of their embeddings is high.

    Args:
        model: gives the embeddings.
        threshold: cosine from which on two texts are similar.
    """

    def __init__(self, model: EmbeddingModel, threshold: float) -> None:
        self._model = model
        self._threshold = threshold
        self._ready: dict[str, np.ndarray] = {}
        self._added: Any = None
        self._count = 0

    def prepare(self, texts: Sequence[str]) -> None:
        """Ask for the embeddings, several at a time."""
        self._ready = dict(zip(texts, self._model.vectors(texts), strict=True))

    def similar(self, text: str) -> Iterable[int]:
        """The numbers of similar texts."""
        if not self._count:
            return []
        cosines = self._added[: self._count] @ self._ready[text]
        found: list[int] = np.flatnonzero(cosines >= self._threshold).tolist()
        return found

    def add(self, text: str) -> None:
        """Add a text."""
        vector = self._ready[text]
        if self._added is None:
            self._added = np.empty((64, len(vector)), dtype=np.float32)
        elif self._count == len(self._added):
            self._added = np.concatenate([self._added, np.empty_like(self._added)])
        self._added[self._count] = vector
        self._count += 1


def text_of_task(task: Task) -> str:
    """The query, after what the user said before; white space makes no difference."""
    said = [str(m.get("content", "")) for m in task.init_messages[:-1] if m.get("role") == "user"]
    text = " ".join([*said, task.main_query])
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _is_same(new: _Known, known: _Known) -> bool:
    has_other_answer = new.answer and known.answer and new.answer != known.answer
    return new.numbers == known.numbers and not has_other_answer


def _short_answer(task: Task) -> str:
    answer = " ".join(str(task.metadata.get("answer") or "").casefold().split())
    return answer if len(answer) <= SHORT_ANSWER else ""


def _embedding_model(context: FilterContext) -> EmbeddingModel:
    """The model of the filter's settings; what they leave out is as for other models."""
    params = context.params
    given = {key: getattr(params, key) for key in ("model", "base_url", "api_key_env")}
    if "dashscope" in (params.base_url or ""):
        given["api_key_env"] = params.api_key_env or "DASHSCOPE_API_KEY"
    update = {key: value for key, value in given.items() if value is not None}
    return EmbeddingModel(context.model.model_copy(update=update), params.db_path)


def _shingles(text: str) -> set[str]:
    """The sequences of a text, marked with its numbers.

    Texts with different numbers therefore have none in common. Without the mark, all texts of a
    template with numbers would be candidates for each other.
    """
    text, mark = text.casefold(), " ".join(_numbers(text))
    return {f"{text[i : i + SHINGLE]} {mark}" for i in range(max(1, len(text) - SHINGLE + 1))}


def _numbers(text: str) -> list[str]:
    return sorted(re.findall(r"\d+(?:[.,]\d+)*", text))
