"""Statistics of a judge: agreement with labels, stability, length bias, each with its interval.

Intervals are 95%: Wilson's for shares, the bootstrap's percentiles (2,000 resamples, a fixed seed)
for the others. A number that the data cannot give is None, with the reason beside it: Spearman's
rank correlation of constant values, for example.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ajet.errors import MissingExtraError

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(slots=True, kw_only=True, frozen=True)
class Estimate:
    """A number with its interval."""

    value: float | None
    low: float | None = None
    high: float | None = None
    count: int = 0
    """Episodes that it is computed from."""
    why_not: str = ""
    """Why there is no value."""

    def as_json(self) -> dict[str, Any]:
        """The numbers, and the reason where one is missing."""
        numbers = {"value": self.value, "low": self.low, "high": self.high, "count": self.count}
        return numbers | ({"why_not": self.why_not} if self.why_not else {})

    def __str__(self) -> str:
        if self.value is None:
            return f"none: {self.why_not}"
        if self.low is None or self.high is None:
            return f"{self.value:.3f} (n={self.count})"
        return f"{self.value:.3f}  [{self.low:.3f}, {self.high:.3f}] (n={self.count})"


def share(number: int, count: int) -> Estimate:
    """A share with Wilson's interval."""
    if not count:
        return Estimate(value=None, why_not="no episode")
    found = _stats().binomtest(number, count).proportion_ci(LEVEL, method="wilson")
    return Estimate(value=number / count, low=float(found.low), high=float(found.high), count=count)


def spearman(one: Sequence[float], other: Sequence[float]) -> Estimate:
    """Spearman's rank correlation."""
    return _paired(one, other, _rank_correlation)


def ranks(values: Sequence[float]) -> np.ndarray:
    """The rank of each value, from 1; equal values share the mean of their ranks."""
    return np.asarray(_stats().rankdata(values), float)


def kappa(one: Sequence[bool], other: Sequence[bool]) -> Estimate:
    """Cohen's kappa of two yes-or-no judgements: agreement beyond that of chance."""
    return _paired([float(x) for x in one], [float(x) for x in other], _cohen)


def mean(values: Sequence[float]) -> Estimate:
    """The mean."""
    return _paired(values, values, lambda x, _: float(np.mean(x)))


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(_stats().spearmanr(one, other).statistic)


def _cohen(one: np.ndarray, other: np.ndarray) -> float:
    agreed = float(np.mean(one == other))
    yes, no = one.mean() * other.mean(), (1 - one.mean()) * (1 - other.mean())
    by_chance = float(yes + no)
    return float("nan") if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


def _paired(
    one: Sequence[float], other: Sequence[float], measure: Callable[..., float]
) -> Estimate:
    x, y = np.asarray(one, float), np.asarray(other, float)
    if len(x) < 2:
        return Estimate(value=None, count=len(x), why_not="fewer than two episodes")
    value = measure(x, y)
    if np.isnan(value):
        return Estimate(value=None, count=len(x), why_not="all values are the same")
    rng = np.random.default_rng(0)
    # One after the other: the memory does not grow with their number.
    picks = (rng.integers(0, len(x), len(x)) for _ in range(RESAMPLES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a resample may be constant; it is left out below
        found = np.array([measure(x[pick], y[pick]) for pick in picks])
    found = found[~np.isnan(found)]
    edge = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(found, [edge, 100 - edge]) if len(found) else (value, value)
    return Estimate(value=float(value), low=float(low), high=float(high), count=len(x))


def _stats() -> Any:
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingExtraError("scipy", "judge") from error
    return stats
