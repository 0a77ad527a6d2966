"""The tuned model of a run and its base model, each with an engine, under their names."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ajet.config.loading.load import load_config
from ajet.config.sections.root import AjetConfig
from ajet.context_tracker.tracker import ContextTracker, EpisodeRecord
from ajet.errors import ConfigError
from ajet.gateway.gateway import AgentSession, Gateway
from ajet.launcher.backbones import check_libraries
from ajet.launcher.run_folder import checkpoint_of, locked
from ajet.monitor.run_record import recorded
from ajet.training.episodes import sampling_defaults
from ajet.training.model_folder import weights_of


@dataclass(slots=True, kw_only=True, frozen=True)
class ServedModel:
    """A model that answers requests."""

    name: str
    gateway: Gateway

    def session(self) -> AgentSession:
        """A conversation with the model. What it records goes with it."""
        tracker = ContextTracker(
            self.gateway.chat_format, episode_id=str(uuid.uuid4()), task_id="served"
        )
        record = EpisodeRecord(tracker)
        return AgentSession(
            self.gateway, record, agent_name=self.name, target_tag=self.name, trained=False
        )


@contextmanager
def open_models(
    run: Path, *, step: str | None, with_base: bool, engine: str | None, overrides: Sequence[str]
) -> Iterator[list[ServedModel]]:
    """Load the tuned model of a run and, if asked for, its base model.

    Args:
        run: the run's folder.
        step: a checkpoint's step; None: the newest.
        with_base: also load the model that the run started from.
        engine: `embedded` or `vllm`; None: that of the run.
        overrides: settings that replace the run's.

    Raises:
        AjetError: there is no such checkpoint, or a model cannot be loaded.
    """
    conf = run / "config.yaml"
    if not conf.is_file():
        raise ConfigError(f"{run} is not the folder of a run: it has no config.yaml")
    number, checkpoint = checkpoint_of(run, step)
    # Requests come whenever they like: the lockstep schedule would wait for those that are late.
    settings = [*overrides, "rollout.schedule=continuous"]
    settings += [f"rollout.name={engine}"] if engine else []
    base = load_config(conf, settings).ajet
    given = Path(base.model.path)
    models = [(given.name if given.exists() else base.model.path, base)]
    if checkpoint is not None:
        of_run = weights_of(checkpoint, base.model)
        tuned = (f"{run.resolve().name}@{number}", load_config(conf, [*settings, *of_run]).ajet)
        models = [tuned, *models] if with_base else [tuned]
    with ExitStack() as stack:
        folder = _own_folder(run / "serving", stack)
        yield [
            ServedModel(
                name=name,
                gateway=stack.enter_context(_opened(ajet, folder / str(position))),
            )
            for position, (name, ajet) in enumerate(models)
        ]


def _own_folder(parent: Path, stack: ExitStack) -> Path:
    """A numbered folder that is this process's until the stack is left.

    A run may be served by several processes at once.
    """
    number = 0
    while True:
        folder = parent / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(ConfigError):  # another process has it
            stack.enter_context(locked(folder))
            return folder
        number += 1


@contextmanager
def _opened(ajet: AjetConfig, folder: Path) -> Iterator[Gateway]:
    check_libraries("local")
    from ajet.backbone.local.entry import serve_policy
    from ajet.backbone.local.policy import load_policy

    policy = load_policy(ajet.model)
    folder.mkdir(parents=True, exist_ok=True)
    # The record holds the processes of vLLM, which end with this one.
    with (
        recorded(folder, sys.argv),
        closing(serve_policy(ajet, policy, folder, None)) as serving,
    ):
        yield Gateway(
            chat_format=policy.chat_format,
            engine=serving.engine,
            defaults=sampling_defaults(ajet.rollout),
            call_timeout_s=ajet.rollout.call_timeout_s,
        )
