"""Filters, order and pages of a run's episodes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ajet.errors import RequestError
from ajet.viewer.episode_index import SEPARATOR, EpisodeIndex, agent_names

SORT_KEYS = (
    *("step", "reward", "is_success", "length", "sampled", "num_calls", "duration_s"),
    *("task_id", "outcome", "repeat_index", "dropped", "started_s"),
)
MAX_PAGE = 500
SHOWN = (
    *("step", "phase", "episode_id", "task_id", "repeat_index", "outcome", "reward", "is_success"),
    *("cause", "retries", "num_calls", "agents", "sampled", "length", "trained", "dropped"),
    *("duration_s",),
)

_EQUAL = {"step": int, "phase": str, "task_id": str, "outcome": str, "episode_id": str}
_RANGES = {
    "min_reward": ("reward >= ?", float),
    "max_reward": ("reward <= ?", float),
    "min_length": ("length >= ?", int),
    "max_length": ("length <= ?", int),
    "min_step": ("step >= ?", int),
    "max_step": ("step <= ?", int),
}
_SUCCESS = {"yes": "is_success = 1", "no": "is_success = 0", "unknown": "is_success IS NULL"}
FILTERS = (*_EQUAL, *_RANGES, "success", "failed", "agent")


@dataclass(slots=True, kw_only=True)
class EpisodeQuery:
    """What is asked for, checked."""

    conditions: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    sort: str = "step"
    descending: bool = True
    offset: int = 0
    limit: int = 50
    text: str = ""
    """Searched in the conversations; the caller turns it into `only`."""

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> EpisodeQuery:
        """From the parameters of a URL.

        Raises:
            RequestError: a value that is not of its type, or an order that is not known.
        """
        query = cls(text=given.get("text", ""))
        for name, kind in _EQUAL.items():
            if given.get(name, "") != "":
                query._add(f"{name} = ?", _parsed(name, given[name], kind))
        for name, (condition, kind) in _RANGES.items():
            if given.get(name, "") != "":
                query._add(condition, _parsed(name, given[name], kind))
        if success := given.get("success"):
            query.conditions.append(_choice("success", success, _SUCCESS))
        if failed := given.get("failed"):
            failures = {"yes": "outcome != 'ok'", "no": "outcome = 'ok'"}
            query.conditions.append(_choice("failed", failed, failures))
        if agent := given.get("agent"):
            query._add("instr(agents, ?) > 0", f"{SEPARATOR}{agent}{SEPARATOR}")
        query.sort = _choice("sort", given.get("sort") or "step", {key: key for key in SORT_KEYS})
        order = given.get("order") or "desc"
        query.descending = _choice("order", order, {"asc": "", "desc": "desc"}) == "desc"
        query.offset = max(0, _parsed("offset", given.get("offset") or "0", int))
        query.limit = min(MAX_PAGE, max(1, _parsed("limit", given.get("limit") or "50", int)))
        return query

    @property
    def where(self) -> str:
        """The WHERE clause."""
        return f" WHERE {' AND '.join(self.conditions)}" if self.conditions else ""

    def only(self, episode_ids: Collection[str]) -> None:
        """Keep these, and those whose ids or cause contain the text."""
        like = "%" + self.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        named = " OR ".join(
            f"{name} LIKE ? ESCAPE '\\'" for name in ("task_id", "episode_id", "cause")
        )
        self.conditions.append(f"(episode_id IN (SELECT value FROM json_each(?)) OR {named})")
        self.values += [json.dumps(sorted(episode_ids)), like, like, like]

    def _add(self, condition: str, value: Any) -> None:
        self.conditions.append(condition)
        self.values.append(value)


def run_query(index: EpisodeIndex, query: EpisodeQuery) -> dict[str, Any]:
    """The page, and of how many it is one."""
    counts = index.rows(
        "SELECT count(*) AS total, avg(reward) AS reward_mean, avg(is_success) AS success_rate, "
        f"coalesce(sum(outcome != 'ok'), 0) AS failed FROM episodes{query.where}",
        query.values,
    )[0]
    order = "DESC" if query.descending else "ASC"
    # What is equal stays in the order of the file. Only row numbers are sorted, not whole rows.
    in_order = f"ORDER BY {query.sort} {order} NULLS LAST, rowid"
    rows = index.rows(
        f"SELECT {', '.join(SHOWN)} FROM episodes WHERE rowid IN (SELECT rowid FROM episodes"
        f"{query.where} {in_order} LIMIT ? OFFSET ?) {in_order}",
        [*query.values, query.limit, query.offset],
    )
    for row in rows:
        row["agents"] = agent_names(row["agents"])
    return {**counts, "offset": query.offset, "limit": query.limit, "rows": rows}


def matching_steps(index: EpisodeIndex, query: EpisodeQuery) -> list[int]:
    """The steps whose training episodes the filters leave, the last one first."""
    where = query.where + (" AND " if query.conditions else " WHERE ") + "phase = 'train'"
    found = index.rows(
        f"SELECT DISTINCT step FROM episodes{where} ORDER BY step DESC", query.values
    )
    return [row["step"] for row in found]


def _parsed(name: str, text: str, kind: Any) -> Any:
    try:
        value = kind(text)
    except ValueError:
        raise RequestError(f"{name}: expected {kind.__name__}, got {text[:80]!r}") from None
    if kind is int and abs(value) >= 2**62:
        raise RequestError(f"{name}: {text[:80]} is too large")
    return value.encode(errors="backslashreplace").decode() if kind is str else value


def _choice(name: str, value: str, choices: Mapping[str, str]) -> str:
    if value not in choices:
        raise RequestError(f"{name}: expected one of {', '.join(choices)}, got {value[:80]!r}")
    return choices[value]
