"""Mistakes at the start of a command line, and the options of AgentJet that ours lacks."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Sequence
from itertools import pairwise

from ajet.config.sections.root import RootConfig
from ajet.config.sections.task_runner import ServiceConfig
from ajet.errors import ConfigError, did_you_mean

SERVICE_OPTION = "--with-service"
OWN_OPTIONS = ("--with-ray", "--with-ray-cluster", "--with-logview", SERVICE_OPTION)
KILLERS = ("--kill", "--autokill", "--reboot")
SWARM_OPTIONS = ("--swarm-server", "--swarm-overwatch")
START_TIMEOUT_S = 3600.0
"""Seconds that AgentJet waits for a service of `--with-NAME`."""

logger = logging.getLogger(__name__)


def refuse_mistaken(args: Sequence[str], commands: Sequence[str]) -> None:
    """Refuse a first argument that is neither a subcommand nor a part of `ajet --conf FILE`.

    Raises:
        ConfigError: the message says what was probably meant.
    """
    if not args:
        raise ConfigError(
            "--conf is missing; write `ajet --conf FILE` to run a YAML file, `ajet init NAME` for "
            "a project to begin with, or `ajet --help` for all commands"
        )
    if args[0].startswith("-") or "=" in args[0]:
        return
    if args[0].endswith((".yaml", ".yml")):
        raise ConfigError(f"{args[0]}: --conf is missing; write `ajet --conf {args[0]}`")
    hint = did_you_mean(args[0], commands) or f"; there are {', '.join(commands)}"
    raise ConfigError(f'there is no command "{args[0]}"{hint}')


def refuse_forgotten_conf(args: Sequence[str]) -> None:
    """Refuse a YAML file that stands alone in the arguments of a command that has `--conf`.

    Raises:
        ConfigError: the message has the arguments as they were probably meant.
    """
    if any(arg.partition("=")[0] == "--conf" for arg in args):
        return
    for index, (before, arg) in enumerate(pairwise(args), start=1):
        if arg.endswith((".yaml", ".yml")) and "=" not in arg and not before.startswith("--"):
            start = [word for word in args[:index] if word != "train"]
            meant = shlex.join(["ajet", *start, "--conf", arg])
            raise ConfigError(f"{arg}: --conf is missing; write `{meant}`")


def as_services(args: Sequence[str]) -> list[str]:
    """The same arguments with AgentJet's `--with-NAME` as our `--with-service NAME`.

    Raises:
        ConfigError: an option of AgentJet that ends processes by a word in their command line, or
            one of its swarm mode.
    """
    given = []
    for arg in args:
        name = arg.partition("=")[0]
        if name in KILLERS:
            raise ConfigError(
                f"{name} is not accepted: it ends processes by a word in their command line, and "
                "may end those of others; `ajet kill RUN` ends what one run started"
            )
        if name in SWARM_OPTIONS:
            raise ConfigError(
                f"{name} is not accepted: training for agents that run elsewhere is not part of "
                "this version; tuner.as_oai_baseurl_apikey() in a workflow serves an agent in "
                "another process"
            )
        if arg.startswith("--with-") and name not in OWN_OPTIONS:
            given += [SERVICE_OPTION, arg.removeprefix("--with-")]
        else:
            given.append(arg)
    return given


def with_services(config: RootConfig, names: Sequence[str]) -> RootConfig:
    """The configuration with the services of `--with-NAME`, from NAME_PATH and NAME_SCRIPT.

    Raises:
        ConfigError: one of these environment variables is not set.
    """
    if not names:
        return config
    runner, reader = config.ajet.task_runner, config.ajet.task_reader
    ready_url = reader.env_service.env_url if reader.type == "env_service" else None
    added = [_service(name, ready_url) for name in names]
    services = runner.model_copy(update={"services": [*runner.services, *added]})
    ajet = config.ajet.model_copy(update={"task_runner": services})
    return config.model_copy(update={"ajet": ajet})


def _service(name: str, ready_url: str | None) -> ServiceConfig:
    prefix = name.upper().replace("-", "_")
    folder, script = (os.environ.get(f"{prefix}_{part}") for part in ("PATH", "SCRIPT"))
    if not folder or not script:
        raise ConfigError(
            f"--with-{name} starts the service that {prefix}_SCRIPT names, in the folder "
            f"{prefix}_PATH; set both, or describe the service in ajet.task_runner.services"
        )
    return ServiceConfig(
        name=name,
        command=shlex.split(script),
        cwd=os.path.expanduser(folder),
        ready_url=ready_url,
        start_timeout_s=START_TIMEOUT_S,
    )


def tell_without_effect(*, skip_check: bool, prefix: str | None) -> None:
    """Name the options of AgentJet that have no effect."""
    if skip_check:
        logger.warning("--skip-check-avail-gpu has no effect: `ajet doctor` looks at the GPUs")
    if prefix is not None:
        logger.warning("--prefix has no effect: services have the names of the settings")
