"""Documents as text: which files there are, and how each kind is converted."""

from __future__ import annotations

import hashlib
import logging
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ajet.boundary import caught_error
from ajet.errors import AjetError, DataError, MissingExtraError

logger = logging.getLogger(__name__)

KEY = "ajet.task_reader.data_generation.document_reader.document_path"
VERSION = "1"
"""Changes when the same file gives another text: texts that were kept do not count any more."""
HIDDEN = (".", "~$", "__MACOSX")
"""How the names of files and folders begin that no person put there, such as `.git`."""
MIN_CHARS = 20
"""A document with less text than this is empty."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Document:
    """A document's text."""

    name: str
    """The name of its file."""
    text: str


def read_documents(paths: Sequence[str], kept_in: Path | None) -> list[Document]:
    """The documents of files and folders, in a fixed order.

    A file that has no text or cannot be converted is left out with a warning, unless it is the only
    one.

    Args:
        paths: files and folders.
        kept_in: the folder in which texts are kept; None: files are converted each time.

    Raises:
        DataError: there is no document, or none has a text; the message says why.
        MissingExtraError: the library for a kind of document is not installed.
    """
    documents, problems = [], []
    for path in document_files(paths):
        try:
            text = _kept_text(path, kept_in)
        except DataError as error:
            problems.append(str(error))
            logger.warning("left out: %s", error)
            continue
        documents.append(Document(name=path.name, text=text))
    if problems and not documents:
        raise DataError(f"{KEY}: no document has a text: {'; '.join(problems[:5])}")
    return documents


def document_files(paths: Sequence[str]) -> Iterator[Path]:
    """The files, and those files of the folders that have a known suffix and are not hidden.

    Raises:
        DataError: a path is missing, a file has an unknown suffix, or a folder has no document.
    """
    known = ", ".join(sorted(CONVERTERS))
    seen = set()
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(f"{KEY}: {path}: there is no such file or folder")
        files = [path]
        if path.is_dir():
            inside = sorted(entry for entry in path.rglob("*") if entry.is_file())
            files = [
                file
                for file in inside
                if file.suffix.lower() in CONVERTERS
                and not any(part.startswith(HIDDEN) for part in file.relative_to(path).parts)
            ]
            if not files:
                raise DataError(f"{KEY}: {path}: the folder has no document; known are {known}")
        elif path.suffix.lower() not in CONVERTERS:
            raise DataError(f'{KEY}: {path}: unknown suffix "{path.suffix}"; known are {known}')
        for file in files:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file


def text_of_file(path: Path, content: bytes) -> str:
    """The text of a document, as Markdown where its format has a structure.

    Raises:
        DataError: it cannot be converted, or has no text.
        MissingExtraError: the library for it is not installed.
    """
    convert = CONVERTERS[path.suffix.lower()]
    with caught_error() as caught:  # libraries raise anything for a damaged file
        text = convert(content)
    if caught.error is not None:
        if isinstance(caught.error, AjetError | ImportError):
            raise _named(caught.error, path) from caught.error
        reason = " ".join(f"{type(caught.error).__name__}: {caught.error}".split())[:200]
        raise DataError(f"{path}: cannot be converted, is it damaged? {reason}") from caught.error
    # Half surrogate pairs, which a PDF may have, are no text; blank lines carry no meaning.
    text = text.encode("utf-8", "replace").decode().replace("\x00", "")
    text = "\n".join(line.rstrip(" \t") for line in text.replace("\r\n", "\n").split("\n"))
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    if len(text) < MIN_CHARS:
        advice = "; a scanned document needs text recognition first" if _is_pdf(path) else ""
        raise DataError(f"{path}: has no text{advice}")
    return text


def _kept_text(path: Path, kept_in: Path | None) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if kept_in is None or path.suffix.lower() in (".txt", ".md"):
        return text_of_file(path, content)
    digest = hashlib.sha256(f"{VERSION}{path.suffix.lower()}".encode() + content).hexdigest()[:32]
    kept = kept_in / f"{digest}.txt"
    if kept.is_file():
        return kept.read_text("utf-8")
    text = text_of_file(path, content)
    kept_in.mkdir(parents=True, exist_ok=True)
    aside = kept.with_suffix(".tmp")
    aside.write_text(text, encoding="utf-8")
    aside.replace(kept)
    return text


def _plain(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    if b"\x00" in content[:8192]:
        raise DataError("is not a text but a binary file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _html(content: bytes) -> str:
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    page = BeautifulSoup(content, "html.parser")
    for element in page(["script", "style", "nav", "noscript", "template", "head"]):
        element.decompose()
    text: str = MarkdownConverter(heading_style="ATX", strip=["img", "a"]).convert_soup(page)
    return text


def _docx(content: bytes) -> str:
    import io

    import mammoth

    try:
        page = mammoth.convert_to_html(
            io.BytesIO(content), convert_image=mammoth.images.img_element(lambda image: {"src": ""})
        )
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"is no .docx file: {error}") from error
    return _html(page.value.encode())


def _pdf(content: bytes) -> str:
    import io

    from pypdf import PasswordType, PdfReader
    from pypdf.errors import DependencyError, PdfReadError

    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED:
            raise DataError("is encrypted: save a copy without a password")
        return "\n\n".join(page.extract_text() for page in reader.pages)
    except DependencyError as error:
        raise DataError(f"is encrypted: save a copy without encryption ({error})") from error
    except PdfReadError as error:
        raise DataError(f"is no readable PDF file: {error}") from error


def _named(error: Exception, path: Path) -> Exception:
    """The error with the file's name, or the one that names the missing extra."""
    if isinstance(error, ImportError):
        package = str(error.name or error).partition(".")[0]
        names = {"bs4": "markdownify"}
        return MissingExtraError(names.get(package, package), "data", instead="use .txt or .md")
    return DataError(f"{path}: {error}")


def _is_pdf(path: Path) -> bool:
    return path.suffix.lower() == ".pdf"


CONVERTERS: dict[str, Callable[[bytes], Any]] = {
    ".txt": _plain,
    ".md": _plain,
    ".markdown": _plain,
    ".html": _html,
    ".htm": _html,
    ".docx": _docx,
    ".pdf": _pdf,
}
"""Suffix -> from the file's content to text."""
