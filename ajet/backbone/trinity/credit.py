"""Our advantages as Trinity's advantage function."""

from __future__ import annotations

from typing import Any

from trinity.algorithm.advantage_fn import AdvantageFn
from trinity.buffer.operators.experience_operator import ExperienceOperatorV1
from trinity.common.experience import Experience

from ajet.algorithm.registry import credit_rule
from ajet.backbone.trinity.group_payload import repack, unpack


class GroupCredit(AdvantageFn, ExperienceOperatorV1):
    """Gives the groups of an explored batch their advantages, before they enter the buffer.

    Args:
        estimator: name of the estimator.
    """

    def __init__(self, estimator: str) -> None:
        self._credit = credit_rule(estimator)

    async def process(self, exps: list[Experience]) -> tuple[list[Experience], dict[str, float]]:
        """The same entries with advantages, in the order of the data, in which they are trained.

        So whatever a run trained is all of the data up to a position, from where it can go on.
        """
        parcels = sorted((unpack(entry) for entry in exps), key=lambda parcel: parcel.position)
        report = self._credit([parcel.group for parcel in parcels])
        for entry, parcel, is_flat in zip(exps, parcels, report.is_zero_variance, strict=True):
            parcel.gives_gradient = not is_flat
            repack(entry, parcel)
        return exps, {"samples": len(report.samples)}

    async def __call__(self, exps: list[Experience], **_: Any) -> Any:
        """The same as `process`."""
        return await self.process(exps)

    @classmethod
    def default_args(cls) -> dict[str, Any]:
        """There are none: the estimator is configured."""
        return {}

    @classmethod
    def compute_in_trainer(cls) -> bool:
        """They are there before the buffer."""
        return False
