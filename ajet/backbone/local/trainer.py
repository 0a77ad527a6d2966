"""The local trainer: takes a step's samples, updates the weights, returns metrics."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import numpy as np
import torch
from transformers import PreTrainedModel

from ajet.algorithm.policy_loss import PolicyLoss, policy_loss
from ajet.backbone.local.adapter import Adapter
from ajet.backbone.local.branch_cost import branch_cost
from ajet.backbone.local.forward import (
    attention_for,
    check_forward,
    checkpointed,
    enable_checkpointing,
    longest_in_tree,
    trained_hidden,
    trained_logprobs,
)
from ajet.backbone.local.fused_loss import fused_loss
from ajet.backbone.local.micro_batches import MicroBatch, PackedTree, pack_as_tree, plan_trees
from ajet.backbone.local.optimizer import PolicyOptimizer
from ajet.backbone.local.packed_rows import pack, plan_micro_batches
from ajet.backbone.local.pieces import backward_in_pieces, logprobs_in_pieces, piece_bounds
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.engine.grammar import Grammars
from ajet.errors import TrainingError
from ajet.schema.episode import Sample
from ajet.training.loss_settings import loss_settings
from ajet.training.updates import WeightedSample, plan_updates, staleness


class PolicyTrainer:
    """Trains a model in place, on its device and in its dtype.

    Args:
        model: a transformers causal LM; an engine may read the same weights between updates.
        settings: section `ajet.trainer_common`. With `use_kl_loss`, the reference is a frozen copy
            of the model as it is now: load a checkpoint into it afterwards.
        total_steps: of the run, where the learning rate's schedule ends.
        grammars: for samples with completions that had to match a grammar.
        adapter: of the model; it is trained alone, and the reference is the model without it.

    Raises:
        ModelError: the model cannot be trained in this way.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        settings: TrainerCommonConfig,
        *,
        total_steps: int,
        grammars: Grammars | None = None,
        adapter: Adapter | None = None,
    ) -> None:
        self.model = model
        self._adapter = adapter
        self._loss = loss_settings(settings)
        if settings.gradient_checkpointing:
            enable_checkpointing(model)
        with self._separate():
            check_forward(model)
            self._longest_in_tree = longest_in_tree(model)
            self.branch_cost = branch_cost(model, settings.branch_cost)
            self._fused = fused_loss(
                model,
                settings.fused_loss,
                with_entropy_gradient=self._loss.entropy_coef != 0,
            )
        self.optimizer = PolicyOptimizer(
            model.parameters(), settings.optim, total_steps=total_steps
        )
        self._settings = settings
        self._grammars = grammars
        self._with_kl = settings.use_kl_loss
        self._reference = copy.deepcopy(model) if self._with_kl and adapter is None else None

    @property
    def updates(self) -> int:
        """Number of optimizer updates that were begun in this process."""
        return self.optimizer.updates

    def update(
        self, samples: Sequence[Sample], *, step: int, policy_version: int
    ) -> dict[str, float]:
        """Train on a step's samples and return metrics under their public names.

        `policy/logprob_diff_*` compare trainer and engine on tokens of the current policy version,
        in the first update only, because later updates have other weights. They are absent without
        such tokens, as is `policy/kl` without a reference model.

        Args:
            samples: with advantages that are not all 0; each has trained tokens.
            step: number of the step, from 1; determines learning rate and split.
            policy_version: version of the weights before the update.

        Raises:
            TrainingError: loss or gradient is not finite; the update was not applied.
        """
        metrics = UpdateMetrics(policy_version=policy_version, with_kl=self._with_kl)
        # Files of users that are written for inference often switch gradients off.
        with torch.enable_grad(), self._separate():
            for number, part in enumerate(plan_updates(samples, self._settings, step=step)):
                loss = self._backward(part, metrics, is_first=number == 0)
                if not math.isfinite(loss):
                    raise TrainingError(f"step {step}: the loss is {loss}; nothing was updated")
                metrics.add_update(loss=loss, grad_norm=self.optimizer.update(step))
        return metrics.summary(samples)

    def _separate(self) -> AbstractContextManager[None]:
        """Within it, what is trained can get a gradient."""
        return nullcontext() if self._adapter is None else self._adapter.separate()

    def _backward(
        self, weighted: list[WeightedSample], metrics: UpdateMetrics, *, is_first: bool
    ) -> float:
        """Add the gradient of one update's loss to the weights; returns the loss."""
        total = 0.0
        for batch in self._micro_batches(weighted):
            batch.forbidden = self._forbidden(batch)
            with attention_for(self.model, batch.inputs), checkpointed(self.model):
                logprobs, result = self._train(batch)
            total += float(result.loss.detach())
            metrics.add_micro_batch(batch, result)
            if is_first:
                computed = logprobs.detach().cpu().numpy()
                metrics.compare_logprobs(batch, computed)
                for index, sample in enumerate(batch.samples):
                    sample.keep_trainer_logprobs(computed[batch.sample_index == index])
        return total

    def _micro_batches(self, weighted: list[WeightedSample]) -> Iterator[MicroBatch]:
        """Pack the samples of an update; one at a time, because packing copies them."""
        settings = self._settings
        # Starting a micro-batch costs as much as so many positions: kernel launches on a GPU.
        fixed_cost = 64 if self.model.device.type == "cpu" else 512
        as_rows = [pair for pair in weighted if len(pair[0]) > self._longest_in_tree]
        in_trees = [pair for pair in weighted if len(pair[0]) <= self._longest_in_tree]
        for plan in plan_trees(
            [sample.ids for sample, _ in in_trees],
            max_positions=settings.micro_batch_tokens,
            branch_cost=self.branch_cost,
            share=settings.share_prefixes,
            fixed_cost=fixed_cost,
        ):
            yield pack_as_tree(in_trees, plan)
        if not as_rows:
            return
        for rows in plan_micro_batches(
            [sample.ids for sample, _ in as_rows],
            max_positions=settings.micro_batch_tokens,
            fixed_cost=fixed_cost,
        ):
            yield pack([as_rows[row] for row in rows])

    def _train(self, batch: MicroBatch) -> tuple[torch.Tensor, PolicyLoss]:
        """Add the gradient of a micro-batch; returns logprobs [N] of its tokens, and the loss."""
        with_entropy_gradient = self._loss.entropy_coef != 0
        if self._is_in_pieces(batch):
            return backward_in_pieces(
                self.model,
                batch,
                partial(self._loss_of, batch),
                bounds=piece_bounds(batch.num_positions, self._settings.micro_batch_tokens),
                with_entropy_gradient=with_entropy_gradient,
                fused=self._fused,
            )
        logprobs, entropy = trained_logprobs(
            self.model,
            trained_hidden(self.model, batch.inputs),
            batch,
            with_entropy_gradient=with_entropy_gradient,
            fused=self._fused,
        )
        result = self._loss_of(batch, logprobs, entropy)
        result.loss.backward()  # type: ignore[no-untyped-call]
        return logprobs, result

    def _forbidden(self, batch: MicroBatch) -> np.ndarray | None:
        """[N, V] bool: the tokens that the engine could not sample; None if it could sample all."""
        if not batch.constrained:
            return None
        assert self._grammars is not None, "who samples with a grammar trains with it"
        vocab_size = self.model.config.get_text_config().vocab_size
        forbidden = np.zeros((len(batch.targets), vocab_size), np.bool_)
        for completion in batch.constrained:
            allowed = self._grammars.allowed_along(completion.grammar, completion.ids)
            forbidden[completion.rows] = ~allowed[completion.columns]
        return forbidden

    def _is_in_pieces(self, batch: MicroBatch) -> bool:
        is_tree = isinstance(batch.inputs, PackedTree)
        return is_tree and batch.num_positions > self._settings.micro_batch_tokens

    def _loss_of(
        self, batch: MicroBatch, logprobs: torch.Tensor, entropy: torch.Tensor
    ) -> PolicyLoss:
        """The loss of a micro-batch's N trained tokens."""

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(self.model.device)

        return policy_loss(
            logprobs=logprobs,
            entropy=entropy,
            old_logprobs=tensor(batch.old_logprobs),
            advantages=tensor(batch.advantages),
            weights=tensor(batch.weights),
            sample_index=tensor(batch.sample_index),
            settings=self._loss,
            reference_logprobs=self._reference_logprobs(batch),
        )

    @torch.no_grad()
    def _reference_logprobs(self, batch: MicroBatch) -> torch.Tensor | None:
        """Logprobs [N] of the reference model; None if there is none."""
        if not self._with_kl:
            return None
        model = self._reference or self.model
        adapter = self._adapter
        without = nullcontext() if adapter is None else adapter.switched_off()
        with without, attention_for(model, batch.inputs):
            if self._is_in_pieces(batch):
                bounds = piece_bounds(batch.num_positions, self._settings.micro_batch_tokens)
                return logprobs_in_pieces(model, batch, bounds=bounds, fused=self._fused)[0]
            hidden = trained_hidden(model, batch.inputs)
            return trained_logprobs(model, hidden, batch, fused=self._fused)[0]


class UpdateMetrics:
    """Collects the metrics `policy/...` and `staleness/...` of a step's updates."""

    def __init__(self, *, policy_version: int, with_kl: bool) -> None:
        self._policy_version = policy_version
        self._with_kl = with_kl
        self._losses: list[float] = []
        self._grad_norms: list[float] = []
        self._num_tokens = 0
        self._num_computed = 0
        self._num_padding = 0
        self._sums = np.zeros(3)
        self._logprob_diffs = [np.zeros(0, np.float32)]

    def add_micro_batch(self, batch: MicroBatch, result: PolicyLoss) -> None:
        """Add the sums of a micro-batch."""
        self._num_tokens += len(batch.targets)
        self._num_computed += batch.num_positions
        self._num_padding += batch.num_padding
        self._sums += [float(x) for x in (result.num_clipped, result.entropy_sum, result.kl_sum)]

    def compare_logprobs(self, batch: MicroBatch, logprobs: np.ndarray) -> None:
        """Compare the trainer's logprobs [N] with the engine's, for tokens of the same weights."""
        is_current = batch.policy_versions == self._policy_version
        self._logprob_diffs.append(np.abs(logprobs - batch.old_logprobs)[is_current])

    def add_update(self, *, loss: float, grad_norm: float) -> None:
        """Add one optimizer update."""
        self._losses.append(loss)
        self._grad_norms.append(grad_norm)

    def summary(self, samples: Sequence[Sample]) -> dict[str, float]:
        """The metrics under their public names, given all samples of the step."""
        clipped, entropy, kl = self._sums / self._num_tokens
        metrics = {
            "policy/loss": float(np.mean(self._losses)),
            "policy/grad_norm": float(np.mean(self._grad_norms)),
            "policy/clip_fraction": float(clipped),
            "policy/entropy": float(entropy),
            "tokens/computed": self._num_computed,
            "tokens/padding": self._num_padding,
        } | staleness(samples, self._policy_version)
        if self._with_kl:
            metrics["policy/kl"] = float(kl)
        diffs = np.concatenate(self._logprob_diffs)
        if len(diffs):
            metrics["policy/logprob_diff_max"] = float(diffs.max())
            metrics["policy/logprob_diff_mean"] = float(diffs.mean())
        return metrics
