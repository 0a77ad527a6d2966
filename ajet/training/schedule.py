"""When a run evaluates and saves, and what it warns about after a step: one rule for all backbones.

Each function takes the few values that its rule needs, so that a backbone with a loop of its own
(Trinity-RFT) decides exactly as the shared training loop does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

logger = logging.getLogger(__name__)


def is_due(step: int, every: int | None, *, previous: int | None = None) -> bool:
    """Whether a multiple of `every` lies in (previous, step].

    Args:
        step: the step that is done now.
        every: interval in steps; None: never due.
        previous: the step at which this was last asked. None: `step - 1`. With asynchronous
            updates, steps can be skipped, and a skipped multiple is still due.
    """
    if every is None:
        return False
    if previous is None:
        previous = step - 1
    return step // every > previous // every


def evaluation_is_due(
    step: int, *, test_freq: int | None, total_steps: int, previous: int | None = None
) -> bool:
    """Whether to evaluate after `step`: at each multiple of `test_freq` and after the last step."""
    return step == total_steps or is_due(step, test_freq, previous=previous)


def first_evaluation_is_due(
    step: int,
    *,
    test_freq: int | None,
    val_before_train: bool,
    was_evaluated: bool,
    total_steps: int | None = None,
) -> bool:
    """Whether to evaluate before the first new step.

    A new run (step 0) evaluates when `val_before_train` is set. A resumed run makes up for an
    evaluation that was due at its checkpoint and was interrupted.

    Args:
        step: steps that are done.
        test_freq: interval of evaluations in steps; None: only after the last step.
        val_before_train: evaluate the base model.
        was_evaluated: this step's evaluation is on record already.
        total_steps: of the run, whose last step is always evaluated.
    """
    due = val_before_train if step == 0 else step == total_steps or is_due(step, test_freq)
    return due and not was_evaluated


def warn_of_nothing_to_train(
    step: int, reason: str = "every group's rewards are all equal"
) -> None:
    """Warn that no group of the step gives a gradient, so the step has no update.

    Args:
        step: for the message.
        reason: see `why_no_gradient`.
    """
    logger.warning(
        "step %d has nothing to learn from (see group/zero_variance), so the weights stay as they "
        "are: %s",
        step,
        reason,
    )


def warn_of_logprobs(metrics: Mapping[str, float], *, step: int, bound: float | None) -> None:
    """Warn where the logprobs of engine and trainer differ by more than rounding explains.

    Args:
        metrics: of the update; without `policy/logprob_diff_max` nothing was compared.
        step: for the message.
        bound: largest expected difference of one token's logprob, nats; None: no bound applies.
    """
    difference = metrics.get("policy/logprob_diff_max", 0.0)
    if bound is not None and difference > bound:
        logger.warning(
            "step %d: engine and trainer differ by %.2g in a token's logprob (bound %.2g). "
            "With equal weights that is a fault: look for changes of the model between "
            "rollout and training, at the attention implementation, and at the dtype",
            step,
            difference,
            bound,
        )
