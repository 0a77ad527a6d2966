"""Similar queries: found by the character sequences that they share, or by embeddings."""

from __future__ import annotations

import re
from collections.abc import Sequence
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


class SimilarTexts(Protocol):
    """Texts that were added, and whether a new one is similar to one of them."""

    def add_new(self, texts: Sequence[str]) -> list[bool]:
        """Add each text, unless a similar one is there; whether it was added."""


class DeduplicationFilter:
    """Of similar queries, keeps the first. A query counts with the messages before it."""

    def __init__(self, context: FilterContext) -> None:
        threshold = context.params.similarity_threshold
        if context.params.model is None:
            self._texts: SimilarTexts = SharedSequences(threshold)
        else:
            self._texts = SimilarEmbeddings(_embedding_model(context), threshold)

    def remember(self, tasks: Sequence[Task]) -> None:
        """Note tasks that are kept already."""
        self._texts.add_new([text_of_task(task) for task in tasks])

    def keep_all(self, tasks: Sequence[Task]) -> list[bool]:
        """Whether each task is kept: not if a similar one came before it."""
        return self._texts.add_new([text_of_task(task) for task in tasks])


class SharedSequences:
    """Texts are similar if the share of their common character sequences (Dice) is high.

    Candidates come from an index of MinHashes, so that each text is compared with few others.
    Texts with different numbers are not similar: `3 + 4` is another task than `3 + 5`.

    Args:
        threshold: share from which on two texts are similar; above 0.
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
        self._texts: list[str] = []
        self._exact: set[str] = set()

    def add_new(self, texts: Sequence[str]) -> list[bool]:
        """Add each text, unless a similar one is there; whether it was added."""
        return [self._add(text) for text in texts]

    def _add(self, text: str) -> bool:
        text = " ".join(text.casefold().split())
        if text in self._exact:
            return False
        shingles = _shingles(text)
        minhash = self._minhash(NUM_PERMUTATIONS)
        minhash.update_batch([shingle.encode() for shingle in shingles])
        if any(
            self._is_similar(text, shingles, self._texts[i]) for i in self._index.query(minhash)
        ):
            return False
        self._index.insert(len(self._texts), minhash)
        self._texts.append(text)
        self._exact.add(text)
        return True

    def _is_similar(self, text: str, shingles: set[str], other: str) -> bool:
        if _numbers(text) != _numbers(other):
            return False
        others = _shingles(other)
        return 2 * len(shingles & others) >= self._threshold * (len(shingles) + len(others))


class SimilarEmbeddings:
    """Texts are similar if the cosine of their embeddings is high.

    Args:
        model: gives the embeddings.
        threshold: cosine from which on two texts are similar.
    """

    def __init__(self, model: EmbeddingModel, threshold: float) -> None:
        self._model = model
        self._threshold = threshold
        self._vectors: Any = None
        self._count = 0

    def add_new(self, texts: Sequence[str]) -> list[bool]:
        """Add each text, unless a similar one is there; whether it was added."""
        return [self._add(vector) for vector in self._model.vectors(texts)]

    def _add(self, vector: np.ndarray) -> bool:
        if self._count and float(np.max(self._vectors[: self._count] @ vector)) >= self._threshold:
            return False
        if self._vectors is None:
            self._vectors = np.empty((64, len(vector)), dtype=np.float32)
        elif self._count == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
        self._vectors[self._count] = vector
        self._count += 1
        return True


def _embedding_model(context: FilterContext) -> EmbeddingModel:
    """The model of the filter's settings; what they leave out is as for other models."""
    params = context.params
    given = {key: getattr(params, key) for key in ("model", "base_url", "api_key_env")}
    if "dashscope" in (params.base_url or ""):
        given["api_key_env"] = params.api_key_env or "DASHSCOPE_API_KEY"
    update = {key: value for key, value in given.items() if value is not None}
    return EmbeddingModel(context.model.model_copy(update=update), params.db_path)


def text_of_task(task: Task) -> str:
    """The query, after what the user said before."""
    said = [str(m.get("content", "")) for m in task.init_messages[:-1] if m.get("role") == "user"]
    return "\n".join([*said, task.main_query])


def _shingles(text: str) -> set[str]:
    return {text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1))}


def _numbers(text: str) -> list[str]:
    return sorted(re.findall(r"\d+(?:[.,]\d+)*", text))
