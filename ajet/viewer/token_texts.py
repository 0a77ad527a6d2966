"""Texts of single tokens, from a `tokenizer.json` in the run's own folder."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from ajet.boundary import caught_error

TOKENIZER_FILE = "tokenizer.json"


def find_tokenizer(run_dir: Path) -> Path | None:
    """The one that the run kept, or that of its last checkpoint."""
    kept = run_dir / "tokenizer" / TOKENIZER_FILE
    if kept.is_file():
        return kept
    steps = sorted((run_dir / "checkpoints").glob(f"step_*/{TOKENIZER_FILE}"))
    return steps[-1] if steps else None


class TokenTexts:
    """What single ids stand for. Bytes that are no whole character are shown as escapes."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._text = lru_cache(maxsize=200_000)(self._text_of)

    @classmethod
    def load(cls, path: Path) -> TokenTexts | None:
        """The texts by the tokenizer in a file; None if the file is damaged."""
        from tokenizers import Tokenizer

        with caught_error():  # the library raises plain `Exception`
            return cls(Tokenizer.from_file(str(path)))
        return None

    def texts(self, ids: Iterable[int]) -> list[str]:
        """One text an id."""
        return [self._text(int(token_id)) for token_id in ids]

    def _text_of(self, token_id: int) -> str:
        if token_id < 0:
            return f"[{token_id}]"
        text = str(self._tokenizer.decode([token_id], skip_special_tokens=False))
        token = self._tokenizer.id_to_token(token_id)
        if token is None:
            return f"[unknown id {token_id}]"
        if "\ufffd" not in text and text:
            return text
        return _bytes_as_text(str(token))


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """The byte that a character of a byte-level vocabulary stands for (GPT-2's table)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    table = {chr(byte): byte for byte in plain}
    return table | {chr(256 + number): byte for number, byte in enumerate(others)}


def _bytes_as_text(token: str) -> str:
    table = _byte_of_character()
    if not all(character in table for character in token):
        return token
    return bytes(table[character] for character in token).decode(errors="backslashreplace")
