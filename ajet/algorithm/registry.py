"""From the names in `trainer_common.algorithm` to functions: credit and policy loss.

The names are registered in `ajet.config.sections.algorithm`, each with the place of its function.
Where a registered name is accepted, the class path of a user's own function is accepted too.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, cast

from ajet.algorithm.credit import AdvantageEstimator, CreditRule, credit
from ajet.class_path import load_function
from ajet.config.sections.algorithm import CREDIT, POLICY_LOSSES

if TYPE_CHECKING:  # it imports torch, and credit must work without
    from ajet.algorithm.token_loss import LossVariant

SECTION = "ajet.trainer_common.algorithm"


def credit_rule(name: str) -> CreditRule:
    """How the configured `adv_estimator` gives credit to the tokens of a step.

    A `CreditRule` is used as it is. Any other function is an advantage estimator, which compares
    the episodes of a group with each other.

    Args:
        name: a registered name or a class path.

    Raises:
        ConfigError: a class path names no function, or its import fails.
    """
    found = load_function(CREDIT.get(name, name), f"{SECTION}.adv_estimator")
    if isinstance(found, CreditRule):
        return found
    return CreditRule(assign=partial(credit, estimator=cast(AdvantageEstimator, found)))


@lru_cache
def loss_variant(name: str) -> LossVariant:
    """The configured `policy_loss`.

    Args:
        name: a registered name or a class path.

    Raises:
        ConfigError: a class path names no function, or its import fails.
    """
    path = POLICY_LOSSES.get(name, name)
    return cast("LossVariant", load_function(path, f"{SECTION}.policy_loss"))
