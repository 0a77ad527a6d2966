"""From the configuration to the settings of the loss. Imports torch."""

from __future__ import annotations

from ajet.algorithm.policy_loss import LossSettings
from ajet.config.sections.trainer_common import TrainerCommonConfig


def loss_settings(settings: TrainerCommonConfig) -> LossSettings:
    """The loss that section `ajet.trainer_common` describes."""
    algorithm = settings.algorithm
    return LossSettings(
        variant=algorithm.policy_loss,
        clip_ratio_low=algorithm.clip_ratio_low,
        clip_ratio_high=algorithm.clip_ratio_high,
        entropy_coef=algorithm.entropy_coeff,
        kl_coef=settings.kl_loss_coef if settings.use_kl_loss else 0.0,
    )
