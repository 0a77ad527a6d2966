"""The record of one training sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(slots=True, kw_only=True)
class Sample:
    """A flat training sequence of one episode; arrays are parallel, with one entry per token."""

    episode_id: str
    task_id: str
    agent_names: tuple[str, ...]
    """Agents whose tokens are trained here, in order of appearance."""
    ids: np.ndarray
    """[L] int32."""
    loss_mask: np.ndarray
    """[L] bool: the policy sampled this token, and it is trained here and nowhere else."""
    logprobs: np.ndarray
    """[L] float32, natural log, under the sampling policy; 0 where loss_mask is False."""
    call_index: np.ndarray
    """[L] int32: `Call.index` of the call that sampled the token; -1 where loss_mask is False."""
    policy_versions: np.ndarray
    """[L] int32; -1 where loss_mask is False."""
    temperature: np.ndarray
    """[L] float32: of the call that sampled the token; 1 where loss_mask is False."""
    advantages: np.ndarray | None = None
    """[L] float32, set when advantages are computed; 0 where loss_mask is False."""
    rewards: np.ndarray | None = None
    """[L] float32, only with a critic: the reward given at this token; mostly 0."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_trained(self) -> int:
        """Number of tokens with loss."""
        return int(self.loss_mask.sum())
