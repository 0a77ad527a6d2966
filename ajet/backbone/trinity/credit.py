"""AgentJet's advantage estimators as Trinity's advantage function."""

from __future__ import annotations

from typing import Any

from trinity.algorithm.advantage_fn import AdvantageFn
from trinity.buffer.operators.experience_operator import ExperienceOperatorV1
from trinity.common.experience import Experience

from ajet.algorithm.credit import credit_rule
from ajet.backbone.trinity.group_payload import GroupPayload


class GroupCredit(AdvantageFn, ExperienceOperatorV1):
    """Computes the advantages of a batch of groups before they enter the buffer.

    Args:
        estimator: registered name of an advantage estimator.
    """

    def __init__(self, estimator: str) -> None:
        self._credit = credit_rule(estimator)

    async def process(self, exps: list[Experience]) -> tuple[list[Experience], dict[str, float]]:
        """Return the same entries with advantages, in the order of the data."""
        # Trained in this order, the trained groups are always all data up to some position.
        # That position is where a resumed run continues.
        payloads = sorted(map(GroupPayload.decode, exps), key=lambda payload: payload.position)
        report = self._credit([payload.group for payload in payloads])
        for entry, payload, is_flat in zip(exps, payloads, report.is_zero_variance, strict=True):
            payload.gives_gradient = not is_flat
            payload.encode_into(entry)
        return exps, {"samples": len(report.samples)}

    async def __call__(self, exps: list[Experience], **_: Any) -> Any:
        """Do the same as `process`."""
        return await self.process(exps)

    @classmethod
    def default_args(cls) -> dict[str, Any]:
        """No defaults: the estimator always comes from the run's configuration."""
        return {}

    @classmethod
    def compute_in_trainer(cls) -> bool:
        """False: the explorer computes the advantages before the buffer."""
        return False
