"""A tokenizer that needs only the `tokenizers` library and reads `tokenizer.json`.

It satisfies the tokenizer protocol of `renderers`. It leaves out the optional character offsets on
purpose: nothing here uses them, and without them rendering takes half the time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from ajet.errors import ModelError

_CACHED_TEXTS = 8192
_LONGEST_CACHED_TEXT = 4096


class ChatTokenizer:
    """Text to ids and back. Short texts are cached, because chat formats repeat themselves."""

    def __init__(self, folder: Path, name: str) -> None:
        from tokenizers import Tokenizer

        self.name_or_path = name
        self.folder = folder
        self._backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
        settings = _read_json(folder / "tokenizer_config.json")
        self.eos_token_id = self._special_id(settings.get("eos_token"))
        self.unk_token_id = self._special_id(settings.get("unk_token"))
        self._encode_short = lru_cache(maxsize=_CACHED_TEXTS)(self._encode_text)

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    @property
    def num_base_tokens(self) -> int:
        """The size of the vocabulary without added tokens."""
        return int(self._backend.get_vocab_size(with_added_tokens=False))

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Ids of a text; special tokens that are written in it become their ids."""
        assert not add_special_tokens, "the chat format writes every special token itself"
        if len(text) > _LONGEST_CACHED_TEXT:
            return list(self._encode_text(text))
        return list(self._encode_short(text))

    def decode(
        self,
        token_ids: int | Iterable[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool = False,
    ) -> str:
        """Text of ids, for people and agents; no decision of the tracker depends on it."""
        assert not clean_up_tokenization_spaces, "it would change the text"
        ids = [token_ids] if isinstance(token_ids, int) else list(token_ids)
        return str(self._backend.decode(ids, skip_special_tokens=skip_special_tokens))

    def convert_tokens_to_ids(self, tokens: str | list[str]) -> Any:
        """Id of a token, or ids of several; `unk_token_id` for an unknown token."""
        if isinstance(tokens, str):
            found = self._backend.token_to_id(tokens)
            return self.unk_token_id if found is None else found
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def _encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(self._backend.encode(text, add_special_tokens=False).ids)

    def _special_id(self, token: str | dict[str, Any] | None) -> int | None:
        content = token.get("content") if isinstance(token, dict) else token
        return None if content is None else self._backend.token_to_id(content)


def load_tokenizer(folder: str | Path, name: str | None = None) -> ChatTokenizer:
    """Load the tokenizer of a model folder.

    Args:
        folder: holds `tokenizer.json` and, usually, `tokenizer_config.json`.
        name: the model's public name, by which its chat format is found; None: the folder.

    Raises:
        ModelError: there is no `tokenizer.json`.
    """
    folder = Path(folder)
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"{folder}: found no tokenizer.json; expected a model folder in Hugging Face format "
            "with a fast tokenizer"
        )
    return ChatTokenizer(folder, name or str(folder))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
