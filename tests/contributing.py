"""The examples of CONTRIBUTING.md as files, so that the page and its tests cannot differ."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"


def examples() -> dict[str, str]:
    """File name to text, of every Python block, whose first line is a comment with the name."""
    blocks = re.findall(r"```python\n# (\S+\.py)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return dict(blocks)


def write_examples(folder: Path) -> None:
    for name, text in examples().items():
        (folder / name).write_text(text)
