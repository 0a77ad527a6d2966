"""Limits of the operating system are named, with what to change.

1. An error that a limit has caused becomes one sentence with the limit; other errors stay.
2. A limit under which no training run works is refused before anything is loaded, and so is a
   Python without docstrings.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
from types import SimpleNamespace

import pytest

from ajet.errors import ConfigError, TrainingError
from ajet.launcher.limits import (
    limits_named,
    reached_limit,
    refuse_low_limits,
    refuse_optimized_python,
)

UNLIMITED = resource.RLIM_INFINITY


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """What the system allows; nothing is limited at first."""
    allowed: dict[int, int] = {}

    def getrlimit(kind: int) -> tuple[int, int]:
        return allowed.get(kind, UNLIMITED), UNLIMITED

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    return allowed


@pytest.mark.parametrize(
    ("error", "limit", "said"),
    [
        (MemoryError(), resource.RLIMIT_AS, "no more memory for this process (MemoryError): "),
        (
            ImportError("libtorch_cpu.so: failed to map segment from shared object"),
            resource.RLIMIT_AS,
            "addresses are limited to 1 MB (`ulimit -v`)",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            resource.RLIMIT_AS,
            "(`ulimit -v`)",
        ),
        (OSError(errno.EMFILE, "x"), resource.RLIMIT_NOFILE, "may open 1048576 (`ulimit -n`)"),
        (RuntimeError("can't start new thread"), resource.RLIMIT_NPROC, "1,048,576 (`ulimit -u`)"),
        (RuntimeError("can't start new thread"), resource.RLIMIT_AS, "(`ulimit -v`)"),
        (BlockingIOError(errno.EAGAIN, "fork"), resource.RLIMIT_NPROC, "(`ulimit -u`)"),
    ],
)
def test_an_error_of_a_limit_names_it(
    limits: dict[int, int], error: Exception, limit: int, said: str
) -> None:
    limits[limit] = 2**20
    with pytest.raises(TrainingError) as told, limits_named():
        raise error
    assert said in str(told.value)
    assert "raise that limit, or lower ajet.rollout.max_env_worker" in str(told.value)
    assert "\n" not in str(told.value)


def test_without_a_limit_it_is_the_machine_that_has_no_more(limits: dict[int, int]) -> None:
    assert "the machine or its container has no more" in (reached_limit(MemoryError()) or "")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOENT, "x"), RuntimeError("x"), ImportError("x"), ConfigError("x")]
)
def test_another_error_stays_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, limits_named():
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("limit", "amount", "said"),
    [
        (resource.RLIMIT_AS, 600 * 2**20, r"limited to 600 MB \(`ulimit -v`\), .* at least 2,048"),
        (resource.RLIMIT_NOFILE, 64, r"may open 64 files \(`ulimit -n`\), .* needs at least 232"),
        (resource.RLIMIT_NPROC, 60, r"60 threads and processes \(`ulimit -u`\) .* needs 88 more"),
    ],
)
def test_a_limit_that_no_run_can_live_with_is_refused(
    limits: dict[int, int], monkeypatch: pytest.MonkeyPatch, limit: int, amount: int, said: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    refuse_low_limits(64)
    limits[limit] = amount
    with pytest.raises(TrainingError, match=said):
        refuse_low_limits(64)


def test_a_python_without_docstrings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for level in (0, 1):
        monkeypatch.setattr(sys, "flags", SimpleNamespace(optimize=level))
        refuse_optimized_python()
    monkeypatch.setattr(sys, "flags", SimpleNamespace(optimize=2))
    with pytest.raises(ConfigError, match="PYTHONOPTIMIZE=2 .* unset PYTHONOPTIMIZE"):
        refuse_optimized_python()
