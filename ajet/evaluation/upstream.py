"""Gives the evaluation's sampling settings to requests that are forwarded to a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ajet.context_tracker.tracker import EpisodeRecord
from ajet.gateway.completion import Reply
from ajet.gateway.request import SamplingDefaults
from ajet.gateway.upstream import Upstream

MakeUpstream = Callable[[EpisodeRecord, str, str], Upstream]


def with_defaults(make: MakeUpstream, defaults: SamplingDefaults) -> MakeUpstream:
    """The same upstream, whose requests get the defaults where they name nothing themselves.

    The server of another model knows nothing of our configuration, and `top_k` is not part of the
    OpenAI API, so it is sent only where it is set.
    """
    given: dict[str, Any] = {"temperature": defaults.temperature, "top_p": defaults.top_p}
    if defaults.max_tokens:
        given["max_tokens"] = defaults.max_tokens
    if defaults.top_k:
        given["top_k"] = defaults.top_k

    def made(record: EpisodeRecord, agent_name: str, target_tag: str) -> Upstream:
        upstream = make(record, agent_name, target_tag)
        forward = upstream.forward

        async def with_settings(path: str, body: dict[str, Any]) -> Reply:
            missing = {key: value for key, value in given.items() if key not in body}
            if "max_completion_tokens" in body:
                missing.pop("max_tokens", None)
            return await forward(path, {**missing, **body})

        upstream.forward = with_settings  # type: ignore[method-assign]
        return upstream

    return made
