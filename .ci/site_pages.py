"""Adds what the pages link to outside docs/ to the site; a link to nothing ends the build."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")
ADDED = "project"
"""Folder of the site for what is not below docs/."""


def on_files(files: Any, config: Any) -> Any:
    """Add the targets of all links, and the targets of their links."""
    waiting = [Path(file.abs_src_path) for file in files if file.src_uri.endswith(".md")]
    while waiting:
        page = waiting.pop()
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        for match in LINK.finditer(text):
            target = _target(page, match[1])
            uri = _uri(target)
            if uri.startswith(ADDED) and files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(target)))
                waiting += [target] if uri.endswith(".md") else []
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point the links at where their targets are in the site."""
    source = Path(page.file.abs_src_path)
    here = posixpath.dirname(page.file.src_uri)
    parts = re.split(r"(```.*?```)", markdown, flags=re.DOTALL)

    def moved(match: re.Match[str]) -> str:
        return posixpath.relpath(_uri(_target(source, match[1])), here or ".") + (match[2] or "")

    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in parts)


def _target(page: Path, link: str) -> Path:
    """The file that a link of a page names; a folder stands for its README."""
    target = Path(os.path.normpath(page.parent / link))
    target = target / "README.md" if target.is_dir() else target
    if not target.is_file() or not target.is_relative_to(ROOT):
        raise PluginError(f"{page.relative_to(ROOT)}: a link to nothing: {link}")
    return target


def _uri(target: Path) -> str:
    docs = ROOT / "docs"
    if target.is_relative_to(docs):
        return target.relative_to(docs).as_posix()
    return f"{ADDED}/{target.relative_to(ROOT).as_posix()}"
