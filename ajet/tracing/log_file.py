"""Reads files of JSON: one document per line, one per file, or several one after another.

Logs are written by programs that are killed, rotated and mixed with other output. What is no JSON
is counted, and never ends an import.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from ajet.errors import DataError

logger = logging.getLogger(__name__)

MAX_LINE = 64 * 1024 * 1024
"""Bytes of the longest line that is read; longer ones are left out."""
MAX_DOCUMENT = 1024 * 1024 * 1024
"""Bytes of the largest file that is one document."""
HEAD = 1024
GZIP_MAGIC = b"\x1f\x8b"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")

BROKEN = "broken lines"
TOO_LONG = "lines over 64 MiB"
CUT_OFF = "packed files without an end"


class LogFile:
    """The JSON documents of a file that earlier imports have not seen.

    Args:
        path: the file; one that gzip wrote is unpacked.
        position: what `position` was after the earlier import; None: read all of it.
    """

    def __init__(self, path: Path, position: dict[str, Any] | None) -> None:
        self._path = path
        self._stored = position or {}
        self.position: dict[str, Any] = {}
        """How far the file has been read; complete at the end of the iteration."""
        self.problems: Counter[str] = Counter()
        """Reason -> number of lines that were left out."""
        self.first_broken = ""
        """Place of the first line that is no JSON."""

    def documents(self) -> Iterator[tuple[str, Any]]:
        """Each document with its place; the elements of a list count as documents.

        Raises:
            DataError: the file cannot be read.
        """
        try:
            with self._open() as file:
                if self._is_one_per_line(file):
                    yield from self._lines(file)
                else:
                    yield from self._whole(file)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self._path}: cannot be read: {error}") from error

    def _open(self) -> BinaryIO:
        file = self._path.open("rb")
        start = file.read(2)
        file.seek(0)
        if start == GZIP_MAGIC:
            file.close()
            return cast(BinaryIO, gzip.open(self._path, "rb"))
        if start in UTF_16_MARKS:
            file.close()
            raise DataError(f"{self._path}: is UTF-16, expected UTF-8: convert it")
        return file

    def _next_line(self, file: BinaryIO) -> bytes:
        """The next line; nothing where a packed file ends that is still being written."""
        try:
            return file.readline(MAX_LINE)
        except (EOFError, zlib.error) as error:
            self.problems[CUT_OFF] += 1
            logger.warning("%s: %s; what comes before is used", self._path, error)
            return b""

    def _is_one_per_line(self, file: BinaryIO) -> bool:
        """Whether each line is a document: one of the first is, or the file as a whole is none."""
        try:
            for _ in range(20):
                line = file.readline(MAX_LINE)
                if not line:
                    break
                found = _parsed(line.rstrip(b", \r\n"))
                if isinstance(found, dict) or (isinstance(found, list) and found):
                    return True
            file.seek(0)
            return file.read(HEAD).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"[")
        finally:
            file.seek(0)

    def _lines(self, file: BinaryIO) -> Iterator[tuple[str, Any]]:
        offset, number = self._resume(file)
        while line := self._next_line(file):
            number += 1
            start, offset = offset, offset + len(line)
            if len(line) == MAX_LINE and not line.endswith(b"\n"):
                while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                    offset += len(rest)
                offset += len(rest)
                self.problems[TOO_LONG] += 1
                continue
            place = f"{self._path}:{number}"
            found = _parsed(line)
            if isinstance(found, dict | list):
                yield from _elements(place, found)
            elif not line.endswith(b"\n"):  # still being written: the next import reads it
                offset, number = start, number - 1
                break
            elif line.strip():
                self._broken(place)
        self.position |= {"offset": offset, "lines": number}
        self._keep_head(file, offset)

    def _whole(self, file: BinaryIO) -> Iterator[tuple[str, Any]]:
        content = file.read(MAX_DOCUMENT + 1)
        if len(content) > MAX_DOCUMENT:
            raise DataError(
                f"{self._path}: one document of more than 1 GiB: write one document per line"
            )
        digest = hashlib.sha256(content).hexdigest()
        self.position |= {"sha256": digest}
        if self._stored.get("sha256") == digest:
            return
        text, at = content.decode("utf-8-sig", "replace"), 0
        decoder = json.JSONDecoder(parse_constant=_no_number)
        while (at := _skip_blank(text, at)) < len(text):
            place = f"{self._path}:{text.count(chr(10), 0, at) + 1}"
            try:
                found, at = decoder.raw_decode(text, at)
            except (ValueError, RecursionError):
                self._broken(place)  # where the next document begins is unknown
                return
            yield from _elements(place, found)

    def _resume(self, file: BinaryIO) -> tuple[int, int]:
        """Go to where the earlier import ended; to the beginning if the file is another one."""
        offset = int(self._stored.get("offset", 0))
        if offset and self._stored.get("head") == _head(file, offset):
            file.seek(offset)
            if file.tell() == offset:
                return offset, int(self._stored.get("lines", 0))
        file.seek(0)
        return 0, 0

    def _keep_head(self, file: BinaryIO, offset: int) -> None:
        self.position["head"] = _head(file, offset)

    def _broken(self, place: str) -> None:
        self.problems[BROKEN] += 1
        self.first_broken = self.first_broken or place


def _head(file: BinaryIO, offset: int) -> str:
    """A hash of the file's beginning and of the last bytes before the offset."""
    file.seek(0)
    head = file.read(min(HEAD, offset))
    file.seek(max(0, offset - HEAD))
    return hashlib.sha256(head + file.read(min(HEAD, offset))).hexdigest()


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig", "replace"), parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None


def _no_number(name: str) -> None:
    """NaN and Infinity are no JSON: none of the fields that are read has such a value."""


def _elements(place: str, found: Any) -> Iterator[tuple[str, Any]]:
    for item in found if isinstance(found, list) else [found]:
        yield place, item


def _skip_blank(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n,\x1e":
        at += 1
    return at
