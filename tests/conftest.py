"""What a script starts in the background is deaf to Ctrl-C, and so is all that it starts; these
tests and their children heed it, as in a terminal.

Every run tries the same examples of hypothesis, and a slow machine fails none of them; with
`--hypothesis-profile=search`, others are tried in each run.

Results are those of a CPU, also on a machine with a GPU. Tests with the mark `cuda` are run alone,
by `pytest -m cuda`.
"""

import contextlib
import os
import signal
from pathlib import Path

import pytest

REPEATED = "repeated"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

with contextlib.suppress(ImportError):  # as in some environments of backbones
    from hypothesis import HealthCheck, settings

    unhurried = settings(deadline=None, suppress_health_check=list(HealthCheck))
    settings.register_profile("search", unhurried)
    settings.register_profile(REPEATED, unhurried, derandomize=True)


def pytest_configure(config: pytest.Config) -> None:
    if not _is_about_gpus(config) and Path("/dev/nvidiactl").exists():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks, and for child processes
    if not config.getoption("--hypothesis-profile", REPEATED):
        settings.load_profile(REPEATED)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") and not _is_about_gpus(item.config):
        pytest.skip("needs a GPU, and is run by  make test-cuda")


def _is_about_gpus(config: pytest.Config) -> bool:
    return bool(config.getoption("markexpr") == "cuda")
