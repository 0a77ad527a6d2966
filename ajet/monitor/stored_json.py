"""Values of the user's own as JSON; what JSON cannot hold is left out and named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_LOST = object()


def stored_json(values: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The text, and the paths of what is not in it: `metadata.environment`.

    Whatever the values are, this does not fail: a record must never end a run. Of a mapping among
    them, every entry that can be kept is kept.
    """
    lost: list[str] = []
    kept = {}
    for name, value in values.items():
        if isinstance(value, dict):
            entries = list(value.items())  # a workflow that hangs may be changing it
            kept[name] = _without_lost({k: _kept(v, f"{name}.{k}", lost) for k, v in entries})
        else:
            kept[name] = _kept(value, name, lost)
    return json.dumps(_without_lost(kept)), lost


def _kept(value: Any, path: str, lost: list[str]) -> Any:
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RuntimeError):  # the last: too deep, or changing meanwhile
        lost.append(path)
        return _LOST


def _without_lost(values: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in values.items() if value is not _LOST}
