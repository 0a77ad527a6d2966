"""The samples of an episode, token by token, from `rollouts/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ajet.monitor.rollout_store import rollout_path
from ajet.monitor.rollout_table import TOKEN_COLUMNS
from ajet.viewer.step_tables import episode_rows
from ajet.viewer.token_texts import TokenTexts

TRAINER_LOGPROBS = "trainer_logprobs"
"""Shown where a run stores it: the trainer's logprobs of the same tokens."""
PAGE = 2000
"""Tokens that are sent at once."""
_PLAIN = ("agent_names", "call_spans")
_ARRAYS = (*TOKEN_COLUMNS, TRAINER_LOGPROBS)


class EpisodeSamples:
    """The samples of one episode.

    Raises:
        UnreadableError: the step's file is damaged.
    """

    def __init__(self, run_dir: Path, step: int, episode_id: str) -> None:
        table = episode_rows(rollout_path(run_dir, step), episode_id, (*_PLAIN, *_ARRAYS))
        self.is_recorded = table is not None
        """The step has a file."""
        self._table = table if table is not None else pa.table({})

    def __len__(self) -> int:
        return int(self._table.num_rows) if self._table.num_columns else 0

    def summary(self, number: int) -> dict[str, Any]:
        """What a page says of a sample before it shows tokens."""
        arrays = self._arrays(number)
        mask = arrays["loss_mask"].astype(bool)
        logprobs, advantages = arrays.get("logprobs"), arrays.get("advantages")
        return {
            "length": len(arrays["ids"]),
            "trained": int(mask.sum()),
            "agents": self._plain("agent_names", number) or [],
            "spans": self._plain("call_spans", number) or [],
            "min_logprob": _extreme(logprobs, mask, np.min),
            "max_advantage": _extreme(
                None if advantages is None else np.abs(advantages), mask, np.max
            ),
            "has_trainer_logprobs": TRAINER_LOGPROBS in arrays,
            "has_advantages": advantages is not None,
        }

    def advantage_per_call(self) -> dict[int, float]:
        """Mean advantage of each call's trained tokens, over all samples."""
        sums: dict[int, tuple[float, int]] = {}
        for number in range(len(self)):
            arrays = self._arrays(number)
            if "advantages" not in arrays or "call_index" not in arrays:
                continue
            mask = arrays["loss_mask"].astype(bool)
            calls, advantages = arrays["call_index"][mask], arrays["advantages"][mask]
            for call in np.unique(calls):
                here = advantages[calls == call]
                total, count = sums.get(int(call), (0.0, 0))
                sums[int(call)] = (total + float(here.sum()), count + len(here))
        return {call: total / count for call, (total, count) in sums.items()}

    def tokens(self, number: int, start: int, texts: TokenTexts | None) -> dict[str, Any]:
        """`PAGE` tokens from `start` on, one list a column."""
        arrays = self._arrays(number)
        here = slice(start, start + PAGE)
        ids = arrays["ids"][here]
        columns = {name: _plain_list(array[here]) for name, array in arrays.items()}
        return {
            "start": start,
            "length": len(arrays["ids"]),
            "texts": texts.texts(ids.tolist()) if texts else None,
            "columns": columns,
        }

    def _arrays(self, number: int) -> dict[str, np.ndarray]:
        """Those columns that are as long as `ids`; a mask of zeros where none is stored."""
        found: dict[str, np.ndarray] = {}
        for name in _ARRAYS:
            if name in self._table.column_names:
                values = getattr(self._table.column(name)[number], "values", None)
                if values is not None and _are_numbers(values.type):
                    found[name] = values.to_numpy(zero_copy_only=False)
        ids = found.get("ids", np.zeros(0, np.int32))
        arrays = {name: array for name, array in found.items() if len(array) == len(ids)}
        return {"ids": ids, "loss_mask": np.zeros(len(ids), bool)} | arrays

    def _plain(self, name: str, number: int) -> Any:
        if name not in self._table.column_names:
            return None
        return self._table.column(name)[number].as_py()


def _are_numbers(type_: pa.DataType) -> bool:
    """Anything else is of a damaged file, or of another version."""
    are = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    return any(is_one(type_) for is_one in are)


def _extreme(values: np.ndarray | None, mask: np.ndarray, of: Any) -> float | None:
    if values is None or not mask.any():
        return None
    chosen = values[mask]
    finite = chosen[np.isfinite(chosen)]
    return float(of(finite)) if len(finite) else None


def _plain_list(array: np.ndarray) -> list[Any]:
    """Floats as short as float32 needs them: `-0.1`, not `-0.10000000149011612`."""
    if array.dtype == np.float32:
        return [float(text) for text in array.astype(str)]
    return list(array.tolist())
