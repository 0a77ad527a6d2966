"""The messages behind token ids, for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ajet.schema.call import Call


def conversation(calls: Iterable[Call], last: Call) -> list[dict[str, Any]]:
    """The whole history of a call: its request's messages and its answer.

    A call stores only what it adds to its parent, so the chain of parents is put together.
    """
    by_id = {call.call_id: call for call in calls}
    chain = [last]
    while chain[-1].parent_id is not None:
        chain.append(by_id[chain[-1].parent_id])
    return [message for call in reversed(chain) for message in (*call.messages, call.response)]
