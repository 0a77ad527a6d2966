"""One line of the reports of `ajet doctor` and `ajet check`."""

from __future__ import annotations

from typing import Literal, NamedTuple

Verdict = Literal["ok", "warn", "bad"]


class Finding(NamedTuple):
    """What was found out about one thing."""

    verdict: Verdict
    """`bad`: something will not work. `warn`: something may fail, or work differently than
    expected."""
    name: str
    """What was checked."""
    text: str
    remedy: str = ""
    """What to do about a `warn` or `bad` finding; may have several lines."""


def is_bad(findings: list[Finding]) -> bool:
    """Whether any of the findings is bad."""
    return any(finding.verdict == "bad" for finding in findings)


def gigabytes(size: float) -> str:
    """A number of bytes as text, such as `1.5 GB`; below 0.1 GB in MB."""
    return f"{size / 2**30:.1f} GB" if size >= 2**30 / 10 else f"{size / 2**20:.0f} MB"
