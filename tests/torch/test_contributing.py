"""The example of CONTRIBUTING.md for a loss variant works as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ajet.algorithm.policy_loss import LossSettings, TrainedTokens, loss_variant
from ajet.config.sections.algorithm import POLICY_LOSSES
from tests.contributing import write_examples


def test_loss_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_examples(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(POLICY_LOSSES, "toy", "plain_policy_gradient->plain_policy_gradient")
    tokens = TrainedTokens(
        logprobs=torch.tensor([-1.0, -2.0], requires_grad=True),
        old_logprobs=torch.zeros(2),
        advantages=torch.tensor([1.0, -3.0]),
        sample_index=torch.zeros(2, dtype=torch.int64),
    )
    settings = LossSettings(clip_ratio_low=0.2, clip_ratio_high=0.2)
    for name in ("toy", f"{tmp_path}/plain_policy_gradient.py->plain_policy_gradient"):
        assert loss_variant(name)(tokens, settings).loss.tolist() == [1.0, -6.0]
