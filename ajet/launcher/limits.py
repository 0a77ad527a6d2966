"""Limits of the operating system: raised where that is allowed, and named where they are reached.

A library that reaches one raises errors that name no limit: `RuntimeError: can't start new thread`,
`ImportError: failed to map segment from shared object`. Compiled libraries even end the process
when they get no memory or thread. So a limit under which no training run works is refused first.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ajet.errors import AjetError, ConfigError, TrainingError

logger = logging.getLogger(__name__)

MOST_FILES = 65_536
"""Open files that a run asks for; more would slow down programs that close all of them."""

LEAST_ADDRESSES = 2 * 2**30
"""Bytes of address space: PyTorch's libraries alone need more than half, and a smaller limit ends
the process in the middle of compiled code."""
FILES_OF_EPISODE = 3
"""Open files that the event loop of an episode needs; its clients and tools may need more."""
OWN_FILES, OWN_THREADS = 40, 24
"""Open files and threads that a run needs besides those of its episodes. A process counts as a
thread."""

WITHOUT_DOCSTRINGS = (
    "Python runs without docstrings (PYTHONOPTIMIZE=2 or -OO), and libraries such as transformers "
    "do not work without them; unset PYTHONOPTIMIZE, or set it to 1"
)
_MEMORY = ("allocate memory", "failed to map segment", "not enough memory", "bad_alloc")
_THREADS = ("can't start new thread", "pthread_create", "thread creation failed")
_FILES = ("too many open files",)


def raise_file_limit() -> None:
    """Allow as many open files as the system does: every episode has some of its own.

    A shell's default is 256 on macOS and 1024 on Linux, which 64 episodes with clients can exceed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:  # macOS allows less than it says
            logger.debug("the limit of %d open files stays: %s", soft, error)


def refuse_optimized_python() -> None:
    """Refuse to train without docstrings.

    Raises:
        ConfigError: Python removes docstrings.
    """
    if sys.flags.optimize > 1:
        raise ConfigError(WITHOUT_DOCSTRINGS)


def refuse_low_limits(max_env_worker: int) -> None:
    """Refuse to train under limits that every training run exceeds.

    Args:
        max_env_worker: how many episodes run at the same time.

    Raises:
        TrainingError: a limit is too low.
    """
    memory = _limit(resource.RLIMIT_AS)
    if memory is not None and memory < LEAST_ADDRESSES:
        raise TrainingError(
            f"the addresses of this process are limited to {memory / 2**20:,.0f} MB (`ulimit -v`), "
            f"and training needs at least {LEAST_ADDRESSES / 2**20:,.0f} MB, of which it uses only "
            "a part as memory; raise that limit, or limit the memory of a container instead"
        )
    files, needed = _limit(resource.RLIMIT_NOFILE), OWN_FILES + FILES_OF_EPISODE * max_env_worker
    if files is not None and files < needed:
        raise TrainingError(
            f"this process may open {files} files (`ulimit -n`), and a run needs at least "
            f"{needed}; raise that limit, or lower ajet.rollout.max_env_worker, which is "
            f"{max_env_worker}"
        )
    threads = _limit(resource.RLIMIT_NPROC)
    if threads is not None and os.geteuid() != 0:  # it does not hold for root
        used, needed = _num_threads_of_user(), max_env_worker + OWN_THREADS
        if threads - used < needed:
            raise TrainingError(
                f"this user may have {threads:,} threads and processes (`ulimit -u`) and has "
                f"{used:,}, and a run needs {needed} more; raise that limit, or lower "
                f"ajet.rollout.max_env_worker, which is {max_env_worker}"
            )


def _num_threads_of_user() -> int:
    """What counts towards the limit of threads; 0 on a system without `/proc`."""
    number = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is hidden from this user
            if folder.stat().st_uid == os.geteuid():
                number += len(list((folder / "task").iterdir()))
    return number


@contextmanager
def limits_named() -> Iterator[None]:
    """Raise an error that names the limit instead of one that a reached limit has caused.

    Raises:
        TrainingError: the process has reached a limit of the operating system.
    """
    try:
        yield
    except AjetError:
        raise
    except (MemoryError, OSError, RuntimeError, ImportError) as error:
        if (sentence := reached_limit(error)) is None:
            raise
        raise TrainingError(sentence) from error


def reached_limit(error: BaseException) -> str | None:
    """Which limit the error is about and what to change; None: about none."""
    text = f"{type(error).__name__}: {error}".rstrip(": ").splitlines()[0][:300]
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EMFILE, errno.ENFILE) or _has(text, _FILES):
        files = _limit(resource.RLIMIT_NOFILE)
        return (
            f"too many open files ({text}): this process may open {files or 'no more'} "
            "(`ulimit -n`); raise that limit, or lower ajet.rollout.max_env_worker"
        )
    if _has(text, _THREADS) or number == errno.EAGAIN:
        return (
            f"no thread or process can be started ({text}): {_of_threads()}; raise that limit, or "
            "lower ajet.rollout.max_env_worker"
        )
    if isinstance(error, MemoryError) or number == errno.ENOMEM or _has(text, _MEMORY):
        memory = _limit(resource.RLIMIT_AS)
        limit = (
            f"its addresses are limited to {memory / 2**20:,.0f} MB (`ulimit -v`); raise that limit"
            if memory
            else "the machine or its container has no more; use a larger one"
        )
        return (
            f"no more memory for this process ({text}): {limit}, or lower "
            "ajet.rollout.max_env_worker or ajet.trainer_common.micro_batch_tokens"
        )
    return None


def _has(text: str, parts: tuple[str, ...]) -> bool:
    return any(part in text.lower() for part in parts)


def _limit(kind: int) -> int | None:
    soft, _ = resource.getrlimit(kind)
    return None if soft == resource.RLIM_INFINITY else soft


def _of_threads() -> str:
    """The stack of a thread needs address space, so that limit can be the reason as well."""
    limits = []
    if threads := _limit(resource.RLIMIT_NPROC):
        limits.append(f"this user may have {threads:,} (`ulimit -u`)")
    if memory := _limit(resource.RLIMIT_AS):
        limits.append(f"its addresses are limited to {memory / 2**20:,.0f} MB (`ulimit -v`)")
    return " and ".join(limits) or "the machine or its container allows no more"
