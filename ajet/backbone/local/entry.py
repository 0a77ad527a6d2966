"""Entry of the local backbone: rollout and training in one process, on a CPU or one GPU."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from functools import partial
from pathlib import Path

from ajet.backbone.local.checkpoint import load_checkpoint, save_checkpoint
from ajet.backbone.local.policy import LocalPolicy, load_policy
from ajet.backbone.local.trainer import PolicyTrainer
from ajet.config.sections.rollout import RolloutConfig
from ajet.config.sections.root import AjetConfig, RootConfig
from ajet.engine.embedded.engine import EmbeddedEngine
from ajet.engine.embedded.load import check_model, longest_sequence
from ajet.monitor.progress import Progress
from ajet.monitor.run_record import service_recorder
from ajet.training.checkpoints import Position, latest_checkpoint
from ajet.training.episodes import open_http_endpoint
from ajet.training.inputs import RunInputs
from ajet.training.protocols import Policy, Serving
from ajet.training.run import make_loop

logger = logging.getLogger(__name__)


def run(config: RootConfig, run_folder: Path, resume: bool, inputs: RunInputs) -> None:
    """Train until the last step, draw the reward curve and print the summary.

    Raises:
        AjetError: the run cannot start or continue.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
    """
    with Progress() as progress, closing(open_http_endpoint(config.ajet)) as http_endpoint:
        policy, position = _load(config.ajet, run_folder, resume, inputs.data.total_steps)
        loop = make_loop(
            config,
            run_folder,
            inputs,
            policy,
            resume=resume,
            position=position,
            progress=progress,
            http_endpoint=http_endpoint,
        )
        loop.run_to_the_end()


def _load(
    ajet: AjetConfig, run_folder: Path, resume: bool, total_steps: int
) -> tuple[Policy, Position | None]:
    """The policy and its position: from the newest checkpoint if resumed, else the base model."""
    common = ajet.trainer_common
    loaded = load_policy(ajet.model, ajet.lora, seed=common.seed)
    model, adapter = loaded.model, loaded.adapter
    if ajet.rollout.name == "embedded":
        # Before the trainer is made, whose own check would fail in a less clear way.
        check_model(model, ajet.rollout.max_model_len or longest_sequence(model))
    trainer = PolicyTrainer(
        model, common, total_steps=total_steps, grammars=loaded.grammars, adapter=adapter
    )
    checkpoints = run_folder / "checkpoints"
    newest = latest_checkpoint(checkpoints) if resume else None
    position = None
    if newest is not None:
        position = load_checkpoint(
            newest, model=model, optimizer=trainer.optimizer, adapter=adapter
        )
    serving = serve_policy(ajet, loaded, run_folder, position)
    policy = Policy(
        chat_format=loaded.chat_format,
        serving=serving,
        trainer=trainer,
        save=partial(
            save_checkpoint,
            checkpoints,
            model=model,
            optimizer=trainer.optimizer,
            adapter=adapter,
            tokenizer_dir=loaded.folder,
            max_to_keep=common.max_checkpoints_to_keep,
        ),
        logprob_diff_bound=common.logprob_diff_bound if model.dtype.itemsize >= 4 else None,
    )
    return policy, position


def serve_policy(
    ajet: AjetConfig, policy: LocalPolicy, run_folder: Path, position: Position | None
) -> Serving:
    """Start the configured engine with the policy's weights.

    Args:
        ajet: the configuration.
        policy: the model, as loaded from its folder or changed since.
        run_folder: for logs, and the weights that servers load.
        position: of the checkpoint whose weights the policy has; None: those of its folder.

    Raises:
        AjetError: the engine cannot start.
    """
    common = ajet.trainer_common
    policy_version = position.policy_version if position else 0
    if ajet.rollout.name == "embedded":
        return EmbeddedServing(
            policy, ajet.rollout, seed=common.seed, policy_version=policy_version
        )
    from ajet.backbone.local.vllm_serving import VllmServing

    logger.info("starting vLLM, which takes a minute or so; its log: %s", run_folder / "logs")
    return VllmServing(
        policy,
        ajet.rollout,
        run_folder=run_folder,
        policy_version=policy_version,
        are_base_weights=position is None and policy.has_weights_of_folder,
        logprob_diff_bound=common.logprob_diff_bound,
        seed=common.seed,
        on_started=service_recorder(run_folder),
    )


class EmbeddedServing:
    """An engine in this process that reads the same weights that the trainer changes.

    While the lockstep schedule waits for an episode that hangs, all episodes wait. So its patience
    is at most a quarter of their deadlines.
    """

    def __init__(
        self, policy: LocalPolicy, settings: RolloutConfig, *, seed: int, policy_version: int
    ) -> None:
        deadline_s = min(settings.call_timeout_s, settings.episode_timeout_s)
        self.engine = EmbeddedEngine(
            policy.model,
            policy.chat_format.tokenizer,
            max_model_len=settings.max_model_len or longest_sequence(policy.model),
            max_num_seqs=settings.max_num_seqs,
            grammars=policy.grammars,
            schedule=settings.schedule,
            lockstep_patience_s=min(settings.lockstep_patience_s, deadline_s / 4),
            seed=seed,
            policy_version=policy_version,
        )

    @property
    def lockstep_missed(self) -> int:
        """How often the lockstep schedule continued without an episode that was late."""
        return self.engine.lockstep_missed

    def begin_phase(self) -> None:
        """Drop the KV cache, so that results do not depend on earlier phases."""
        self.engine.forget()

    def publish(self, policy_version: int) -> dict[str, float]:
        """Tell the engine that its weights were changed in place."""
        self.engine.weights_changed()
        assert self.engine.policy_version == policy_version
        return {}

    def close(self) -> None:
        """Stop the engine's thread."""
        asyncio.run(self.engine.aclose())
