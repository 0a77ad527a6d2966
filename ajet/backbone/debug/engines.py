"""Opens the engine that `debug.engine` chooses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ajet.backbone.debug.remote import DebugPolicyModel, open_remote
from ajet.backbone.debug.warm_engine.registry import WarmEngine, fingerprint, in_use, state_path
from ajet.config.sections.debug import is_url
from ajet.config.sections.root import AjetConfig
from ajet.engine.vllm.engine import VllmEngine
from ajet.errors import MissingExtraError, ServiceError
from ajet.training.model_folder import chat_format_of, model_folder

START = "`ajet engine start --conf FILE` keeps an engine running, and the next run starts sooner"

logger = logging.getLogger(__name__)


@contextmanager
def open_model(ajet: AjetConfig) -> Iterator[DebugPolicyModel]:
    """Open the engine that `debug.engine` chooses, for the length of the block.

    Raises:
        AjetError: the engine does not run, or it cannot serve the model.
    """
    choice = ajet.debug.engine
    if choice == "embedded" or is_url(choice):
        with open_remote(ajet) if is_url(choice) else _embedded(ajet) as model:
            yield model
        return
    folder = model_folder(ajet.model.path)
    with in_use(state_path(ajet, folder)) as warm:
        if warm is not None and warm.weights != fingerprint(folder):
            logger.warning(
                "the weights on disk have changed since the warm engine loaded them: not using it"
            )
            warm = None
        if choice == "warm" and warm is None:
            raise ServiceError(f"ajet.debug.engine: no warm engine serves this model; {START}")
        chosen = _embedded(ajet) if warm is None else _warm(ajet, warm, folder)
        with chosen as model:
            yield model


@contextmanager
def _warm(ajet: AjetConfig, warm: WarmEngine, folder: Path) -> Iterator[DebugPolicyModel]:
    engine = VllmEngine(
        urls=[warm.url], api_key=warm.api_key, max_model_len=ajet.rollout.max_model_len
    )
    try:
        yield DebugPolicyModel(
            engine=engine,
            chat_format=chat_format_of(ajet.model, folder),
            title=f"the warm one ({warm.engine}, process {warm.pid})",
        )
    finally:
        asyncio.run(engine.aclose())


@contextmanager
def _embedded(ajet: AjetConfig) -> Iterator[DebugPolicyModel]:
    try:
        from ajet.backbone.local.entry import EmbeddedServing
        from ajet.backbone.local.policy import load_policy
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers"):
            raise
        raise MissingExtraError(error.name, "local") from None
    policy = load_policy(ajet.model)
    # A lockstep schedule would wait for an episode that is stopped in the debugger.
    settings = ajet.rollout.model_copy(update={"schedule": "continuous"})
    serving = EmbeddedServing(policy, settings, seed=ajet.trainer_common.seed, policy_version=0)
    try:
        yield DebugPolicyModel(
            engine=serving.engine,
            chat_format=policy.chat_format,
            title=f"embedded, loaded for this run; {START}",
        )
    finally:
        serving.close()
