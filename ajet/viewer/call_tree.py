"""The token tree of an episode as rows and segments that a page can draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ajet.viewer.turns import reason_text


@dataclass(slots=True, kw_only=True)
class StoredCall:
    """The columns of a call that the tree is drawn from; files may lack or damage any of them."""

    call_id: str
    index: int
    agent_name: str
    parent_id: str | None
    new_timeline: str | None
    trained: bool
    prompt_length: int
    delta_ids: np.ndarray
    completion_ids: np.ndarray

    @property
    def end(self) -> int:
        """Tokens of prompt and completion."""
        return self.prompt_length + len(self.completion_ids)


@dataclass(slots=True, kw_only=True)
class Timeline:
    """A row of the drawing: calls that continue each other."""

    row: int
    first: StoredCall
    calls: list[StoredCall] = field(default_factory=list)
    fork_of: int | None = None
    """The row that it leaves; None: it begins with a prompt of its own."""
    shares_with: int | None = None
    """The earlier row whose first tokens are the same, where no call continues another."""
    num_shared: int = 0
    """Tokens that are the same as in that row, or up to the fork."""


def timelines_of(calls: Sequence[StoredCall]) -> list[Timeline]:
    """Rows in the order in which their first calls arrived."""
    rows: list[Timeline] = []
    row_of: dict[str, Timeline] = {}
    by_id = {call.call_id: call for call in calls}
    for call in calls:
        parent = by_id.get(call.parent_id) if call.parent_id is not None else None
        row = row_of.get(parent.call_id) if parent else None
        if row is None or row.calls[-1] is not parent:
            fork_of = row.row if row else None
            shared = parent.end if parent and row else 0
            row = Timeline(row=len(rows), first=call, fork_of=fork_of, num_shared=shared)
            rows.append(row)
        row.calls.append(call)
        row_of[call.call_id] = row
    _find_shared_prefixes(rows, by_id)
    return rows


def tree_for_page(calls: Sequence[StoredCall]) -> dict[str, Any]:
    """Rows with segments: where a call's prompt adds tokens, and where the model sampled."""
    rows = timelines_of(calls)
    agents = list(dict.fromkeys(call.agent_name for call in calls))
    return {
        "agents": agents,
        "length": max((call.end for call in calls), default=0),
        "rows": [
            {
                "row": row.row,
                "fork_of": row.fork_of,
                "shares_with": row.shares_with,
                "num_shared": row.num_shared,
                "reason": row.first.new_timeline,
                "reason_text": reason_text(row.first.new_timeline),
                "segments": [_segment(call, row) for call in row.calls],
            }
            for row in rows
        ],
    }


def _segment(call: StoredCall, row: Timeline) -> dict[str, Any]:
    start = call.prompt_length - len(call.delta_ids)
    return {
        "call": call.index,
        "agent": call.agent_name,
        "trained": call.trained,
        "start": max(start, 0),
        "sampled_from": call.prompt_length,
        "end": call.end,
    }


def _find_shared_prefixes(rows: Sequence[Timeline], by_id: Mapping[str, StoredCall]) -> None:
    """How far a new timeline agrees with an earlier one, token by token."""
    ids = [_ids_of(row.calls[-1], by_id) for row in rows]
    for row in rows[1:]:
        if row.fork_of is not None:
            continue
        for earlier in rows[: row.row]:
            shared = _common_prefix(ids[earlier.row], ids[row.row])
            if shared > row.num_shared:
                row.shares_with, row.num_shared = earlier.row, shared


def _ids_of(last: StoredCall, by_id: Mapping[str, StoredCall]) -> np.ndarray:
    chain, seen = [last], {last.call_id}
    while (parent := by_id.get(chain[-1].parent_id or "")) and parent.call_id not in seen:
        chain.append(parent)
        seen.add(parent.call_id)
    pieces = [piece for call in reversed(chain) for piece in (call.delta_ids, call.completion_ids)]
    return np.concatenate(pieces)


def _common_prefix(one: np.ndarray, other: np.ndarray) -> int:
    length = min(len(one), len(other))
    differs = np.flatnonzero(one[:length] != other[:length])
    return int(differs[0]) if len(differs) else length
