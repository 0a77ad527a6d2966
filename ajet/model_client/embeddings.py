"""Texts as embeddings of a model behind an OpenAI-compatible URL; each is asked for once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ajet.config.sections.model_client import ModelClientConfig
from ajet.errors import ModelCallError
from ajet.model_client.answer_cache import AnswerCache
from ajet.model_client.endpoint import endpoint_of
from ajet.model_client.place import PLACE

BATCH = 10
"""Texts in one request; some servers take no more."""


class EmbeddingModel:
    """Asks for embeddings and keeps them on disk.

    Args:
        config: the model.
        folder: where they are kept; None: with the answers of models.

    Raises:
        ConfigError: the key of the model is missing.
    """

    def __init__(self, config: ModelClientConfig, folder: str | None = None) -> None:
        self._config = config
        self._endpoint = endpoint_of(config)
        folder = folder or config.cache_dir
        self._cache = AnswerCache(Path(folder) if folder else PLACE.cache_dir)

    def vectors(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The embedding of each text, of length 1.

        Raises:
            ModelCallError: the model gives no embeddings.
        """
        known = {text: self._cache.get(self._key(text)) for text in texts}
        missing = [text for text, kept in known.items() if kept is None]
        for at in range(0, len(missing), BATCH):
            batch = missing[at : at + BATCH]
            for text, values in zip(batch, self._asked(batch), strict=True):
                known[text] = self._cache.put(self._key(text), {"embedding": values})
        found = [known[text] for text in texts]
        vectors = [np.asarray(kept["embedding"], dtype=np.float32) for kept in found if kept]
        return [vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in vectors]

    def _asked(self, texts: list[str]) -> list[list[float]]:
        from openai import OpenAI, OpenAIError

        config = self._config
        try:
            with OpenAI(
                base_url=self._endpoint.url,
                api_key=self._endpoint.key,
                max_retries=config.max_retries,
                timeout=config.timeout_s,
            ) as client:
                answer = client.embeddings.create(
                    model=config.model, input=texts, encoding_format="float"
                )
        except OpenAIError as error:
            said = self._endpoint.without_key(str(error))
            raise ModelCallError(f"embeddings of {config.model}: {said}") from error
        if len(answer.data or []) != len(texts):
            raise ModelCallError(
                f"embeddings of {config.model}: got {len(answer.data or [])} for {len(texts)} texts"
            )
        return [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]

    def _key(self, text: str) -> str:
        content = json.dumps([self._endpoint.url, self._config.model, "embedding", text])
        return hashlib.sha256(content.encode()).hexdigest()
