"""Cuts documents into pieces that fit into a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ajet.data_generation.documents import Document

SplitBy = Literal["sentence", "paragraph", "character"]

SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|(?<=[。！？])|\n\s*\n")
PARAGRAPH_END = re.compile(r"\n\s*\n")


@dataclass(slots=True, kw_only=True, frozen=True)
class Chunk:
    """A piece of a document."""

    document: str
    index: int
    """Position in the document, from 0."""
    text: str


def chunks_of(documents: Sequence[Document], size: int, split_by: SplitBy) -> list[Chunk]:
    """The pieces of all documents, in order.

    Args:
        documents: the texts.
        size: characters of a piece at most.
        split_by: where a text may be cut. What is longer than a piece by itself is cut anywhere.
    """
    return [
        Chunk(document=document.name, index=index, text=text)
        for document in documents
        for index, text in enumerate(_pieces(document.text, size, split_by))
    ]


def _pieces(text: str, size: int, split_by: SplitBy) -> Iterator[str]:
    """Neighbouring units together, as many as fit."""
    start, end = 0, 0
    for unit_end in _unit_ends(text, size, split_by):
        if unit_end - start > size:
            yield from _cut(text[start:end])
            start = end
        end = unit_end
    yield from _cut(text[start:end])


def _unit_ends(text: str, size: int, split_by: SplitBy) -> Iterator[int]:
    """Positions at which the text may be cut; neighbours are at most `size` characters apart."""
    at = 0
    pattern = {"sentence": SENTENCE_END, "paragraph": PARAGRAPH_END}.get(split_by)
    ends = [match.end() for match in pattern.finditer(text)] if pattern else []
    for end in [*ends, len(text)]:
        while end - at > size:
            at += size
            yield at
        if end > at:
            at = end
            yield at


def _cut(text: str) -> Iterator[str]:
    if text := text.strip():
        yield text
