"""What answers the model calls of a debug run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ajet.context_tracker.chat_format import ChatFormat
from ajet.engine.base import Engine
from ajet.gateway.episode_record import EpisodeRecord
from ajet.gateway.upstream import Upstream


@dataclass(slots=True, kw_only=True, frozen=True)
class DebugPolicyModel:
    """An engine with the chat format of its model; or a server that only text is known of."""

    engine: Engine
    chat_format: ChatFormat
    title: str
    """What it is, for people."""
    make_upstream: Callable[[EpisodeRecord, str, str], Upstream] | None = None
    """`Gateway.make_upstream`; None: the engine answers, and its tokens are known."""
