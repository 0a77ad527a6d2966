"""What a script starts in the background is deaf to Ctrl-C, and so is all that it starts; these
tests and their children heed it, as in a terminal.

Every run tries the same examples of hypothesis, and a slow machine fails none of them; with
`--hypothesis-profile=search`, others are tried in each run.
"""

import contextlib
import signal

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
    if not config.getoption("--hypothesis-profile", REPEATED):
        settings.load_profile(REPEATED)
