"""What `ajet doctor` and `ajet check` say about one thing."""

from __future__ import annotations

from typing import Literal, NamedTuple

Verdict = Literal["ok", "warn", "bad"]


class Finding(NamedTuple):
    """One line."""

    verdict: Verdict
    """`bad`: something will not work. `warn`: something may not, or works otherwise than you
    think."""
    name: str
    """What was looked at."""
    text: str
    remedy: str = ""
    """What to do about it; of `warn` and `bad`. May have several lines."""


def is_bad(findings: list[Finding]) -> bool:
    """Whether one of them is."""
    return any(finding.verdict == "bad" for finding in findings)
