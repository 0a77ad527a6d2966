"""Everything of one episode: its calls as turns, its tree, its samples, its outcome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ajet.monitor.call_store import VERSION, call_path
from ajet.viewer.call_tree import StoredCall, tree_for_page
from ajet.viewer.sample_tokens import EpisodeSamples
from ajet.viewer.step_tables import UnreadableError, episode_rows, file_version
from ajet.viewer.turns import parts_of, reason_text, shown_message

MORE = 100_000
"""Characters that "show more" gets at once."""
_VERSION_KEY = b"ajet.calls"
_NO_TOKENS = np.zeros(0, np.int32)
_COLUMNS = (
    *("group", "is_discarded", "repeat_index", "task", "output", "not_stored", "reward"),
    *("reward_per", "call_rewards", "is_success", "failure", "cause", "calls"),
)


def episode_detail(run_dir: Path, step: int, episode_id: str) -> dict[str, Any]:
    """For the page of an episode. What is not there is named in `missing`."""
    missing: list[str] = []
    stored = _stored(run_dir, step, episode_id, missing)
    samples, advantages = _samples(run_dir, step, episode_id, missing)
    calls = stored.get("calls") or []
    rewards = stored.get("call_rewards")
    rewards = rewards if isinstance(rewards, list) else []  # in a damaged file, anything
    tree = tree_for_page([_stored_call(number, call) for number, call in enumerate(calls)])
    row_of = {segment["call"]: row["row"] for row in tree["rows"] for segment in row["segments"]}
    return {
        "step": step,
        "episode_id": episode_id,
        "task": _json(stored.get("task")),
        "output": _json(stored.get("output")),
        "not_stored": stored.get("not_stored") or [],
        "reward": stored.get("reward"),
        "reward_per": stored.get("reward_per"),
        "is_success": stored.get("is_success"),
        "failure": stored.get("failure"),
        "cause": stored.get("cause"),
        "group": stored.get("group"),
        "is_discarded": stored.get("is_discarded"),
        "calls": [
            _turn(number, call, rewards, advantages, row_of) for number, call in enumerate(calls)
        ],
        "tree": tree,
        "samples": samples,
        "missing": missing,
    }


def more_text(run_dir: Path, step: int, episode_id: str, at: list[int], start: int) -> str:
    """What follows in a text that a page shows cut.

    Raises:
        LookupError: there is no such text.
        UnreadableError: the file is damaged.
    """
    call, number, position = at
    stored = _stored(run_dir, step, episode_id, [])
    record = (stored.get("calls") or [])[call]
    message = _json(record.get("response"))
    if number >= 0:
        message = (_json(record.get("messages")) or [])[number]
    return parts_of(message)[position].text[start : start + MORE]


def _stored(run_dir: Path, step: int, episode_id: str, missing: list[str]) -> dict[str, Any]:
    path = call_path(run_dir, step)
    try:
        table: pa.Table | None = episode_rows(path, episode_id, _COLUMNS)
    except UnreadableError as error:
        missing.append(str(error))
        return {}
    if table is None:
        missing.append(f"calls/{path.name} is not there: no conversation, no token tree")
        return {}
    version = file_version(path, _VERSION_KEY)
    if version != VERSION:
        missing.append(
            f"calls/{path.name} is of version {version or 'none'}, this AgentJet knows version "
            f"{VERSION}: what it does not know is left out"
        )
    if not table.num_rows:
        missing.append(f"calls/{path.name} does not have this episode")
        return {}
    has_calls = "calls" in table.column_names
    plain = table.drop_columns(["calls"]) if has_calls else table
    row: dict[str, Any] = plain.slice(0, 1).to_pylist()[0]
    row["calls"] = _calls(table.column("calls")[0].values) if has_calls else []
    return row


def _calls(structs: pa.StructArray | None) -> list[dict[str, Any]]:
    """One mapping a call; token columns stay arrays."""
    if structs is None or not pa.types.is_struct(structs.type):
        return []
    calls: list[dict[str, Any]] = [{} for _ in range(len(structs))]
    for field, column in zip(structs.type, structs.flatten(), strict=True):
        is_list = pa.types.is_list(field.type)
        for call, value in zip(calls, column, strict=True):
            if is_list:
                has_values = value.is_valid and value.values is not None
                call[field.name] = value.values.to_numpy(False) if has_values else _NO_TOKENS
            else:
                call[field.name] = value.as_py()
    return calls


def _samples(
    run_dir: Path, step: int, episode_id: str, missing: list[str]
) -> tuple[list[dict[str, Any]], dict[int, float]]:
    try:
        samples = EpisodeSamples(run_dir, step, episode_id)
    except UnreadableError as error:
        missing.append(str(error))
        return [], {}
    if not samples.is_recorded:
        missing.append(f"rollouts/step_{step:06d}.parquet is not there: no tokens to show")
    return [samples.summary(number) for number in range(len(samples))], samples.advantage_per_call()


def _turn(
    number: int,
    call: dict[str, Any],
    rewards: list[float],
    advantages: dict[int, float],
    row_of: dict[int, int],
) -> dict[str, Any]:
    messages = _json(call.get("messages"))
    index = _index(number, call)
    logprobs = call.get("logprobs", _NO_TOKENS)
    tools = _json(call.get("tools"))
    versions = call.get("policy_versions", _NO_TOKENS)
    return {
        "number": number,
        "index": index,
        "call_id": call.get("call_id") or "",
        "agent": call.get("agent_name") or "",
        "target_tag": call.get("target_tag") or "",
        "trained": bool(call.get("trained")),
        "parent_id": call.get("parent_id"),
        "timeline": row_of.get(index, 0),
        "new_timeline": call.get("new_timeline"),
        "reason_text": reason_text(call.get("new_timeline")),
        "prompt_length": call.get("prompt_length"),
        "completion_length": len(call.get("completion_ids", _NO_TOKENS)),
        "temperature": call.get("temperature"),
        "finish_reason": call.get("finish_reason") or "",
        "versions": [int(versions.min()), int(versions.max())] if len(versions) else None,
        "mean_logprob": float(np.mean(logprobs)) if len(logprobs) else None,
        "reward": rewards[number] if number < len(rewards) else None,
        "advantage": advantages.get(index),
        "tools": [_tool_name(tool) for tool in tools] if isinstance(tools, list) else [],
        "messages": [
            shown_message(message, number, position)
            for position, message in enumerate(messages if isinstance(messages, list) else [])
        ],
        "response": shown_message(_json(call.get("response")), number, -1),
    }


def _stored_call(number: int, call: dict[str, Any]) -> StoredCall:
    return StoredCall(
        call_id=str(call.get("call_id") or number),
        index=_index(number, call),
        agent_name=str(call.get("agent_name") or ""),
        parent_id=call.get("parent_id"),
        new_timeline=call.get("new_timeline"),
        trained=bool(call.get("trained")),
        prompt_length=int(call.get("prompt_length") or 0),
        delta_ids=call.get("delta_ids", _NO_TOKENS),
        completion_ids=call.get("completion_ids", _NO_TOKENS),
    )


def _index(number: int, call: dict[str, Any]) -> int:
    index = call.get("index")
    return index if isinstance(index, int) else number


def _tool_name(tool: Any) -> str:
    function = tool.get("function", tool) if isinstance(tool, dict) else {}
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else "?"


def _json(text: Any) -> Any:
    """None where it is no JSON."""
    if not isinstance(text, str):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
