"""Logprobs straight from hidden states (torch): one kernel of Liger in place of logits in parts.

The kernel multiplies with the output head, sums up and differentiates without storing logits. It
exists for GPUs of the Hopper generation in bfloat16. What it cannot do is computed in parts: heads
with a bias or an adapter, grammars, and the gradient of the entropy, which it rounds to bfloat16.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from ajet.algorithm.policy_loss import token_logprobs
from ajet.boundary import caught_error, text_of
from ajet.errors import MissingExtraError, ModelError

logger = logging.getLogger(__name__)

Kernel = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, float], tuple[torch.Tensor, torch.Tensor]
]
"""From hidden states [M, H], the head's weights [V, H], targets [M] int64 and a temperature to
negative logprobs [M] float32, differentiable, and entropies [M]."""

SETTING = "ajet.trainer_common.fused_loss"

_HOPPER = (9, 0)
_MOST_TEMPERATURES = 8
"""Each temperature of a micro-batch is one call of the kernel."""
_MOST_DIFFERENCE = 0.05
"""Relative difference that the check at the start accepts. Rounding in bfloat16 stays far below it;
a wrong gradient lies far above it."""


class FusedLoss:
    """Computes what `trained_logprobs` computes, by a kernel.

    Args:
        kernel: called once for each temperature.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def supports(self, head: nn.Module, temperature: np.ndarray) -> bool:
        """Whether the kernel can compute tokens with these temperatures [M] behind this head."""
        return _is_plain(head) and 0 < len(np.unique(temperature)) <= _MOST_TEMPERATURES

    def logprobs(
        self,
        head: nn.Module,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        temperature: np.ndarray,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logprobs [M] and entropies [M], float32; the entropies have no gradient.

        Args:
            head: one that is supported.
            hidden: [M, H] last hidden states that predict the targets.
            targets: [M] int64.
            temperature: [M] float32, positive.
        """
        weight: torch.Tensor = head.weight  # type: ignore[assignment]
        values = np.unique(temperature)
        if len(values) == 1:
            loss, entropy = self._kernel(hidden, weight, targets, float(values[0]))
            return -loss.float(), entropy.detach().float()
        order, results = [], []
        for value in values:
            rows = torch.from_numpy(np.flatnonzero(temperature == value)).to(hidden.device)
            order.append(rows)
            results.append(self._kernel(hidden[rows], weight, targets[rows], float(value)))
        # Back from the order of temperatures to that of the tokens.
        place = torch.cat(order).argsort()
        loss, entropy = (torch.cat(parts)[place] for parts in zip(*results, strict=True))
        return -loss.float(), entropy.detach().float()


def _is_plain(head: nn.Module) -> bool:
    # Exactly this class: the layer of an adapter is another one.
    return type(head) is nn.Linear and head.bias is None


def liger_kernel() -> Kernel:
    """Liger's fused projection and cross entropy.

    Raises:
        ImportError: it is not installed, or older than the function.
    """
    from liger_kernel.ops import LigerFusedLinearScaledCrossEntropyFunction as Liger

    def kernel(
        hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        no_target, tiles, with_entropy = -100, 1, True
        result: Any = Liger.apply(
            hidden, weight, targets, temperature, no_target, tiles, with_entropy
        )
        loss, entropy = result
        return loss, entropy

    return kernel


def fused_loss(
    model: PreTrainedModel, setting: Literal["auto"] | bool, *, with_entropy_gradient: bool
) -> FusedLoss | None:
    """The fused loss of a model, checked against the logits; None: logits in parts.

    Args:
        model: on its device and in its dtype.
        setting: True: it must be possible. `auto`: use it where it is.
        with_entropy_gradient: the loss contains the entropy.

    Raises:
        ModelError: it must be possible, and is not; the message says why.
        MissingExtraError: it must be possible, and Liger is not installed.
    """
    if setting is False:
        return None
    why, missing = _unfit(model, with_entropy_gradient=with_entropy_gradient), _missing()
    if setting == "auto" and (why or missing):
        return None
    if why:
        raise ModelError(f"{SETTING}: {why}; set it to auto or false")
    if missing:
        raise MissingExtraError(missing, "fused", instead=f"set {SETTING} to auto or false")
    with caught_error() as caught:  # a compiler of kernels raises errors of all classes
        fused = FusedLoss(liger_kernel())
        check_fused(model, fused)
    if caught.error is None:
        logger.info("the loss is computed by Liger's fused kernel, without logits")
        return fused
    reason = f"{SETTING}: Liger's kernel fails here: {text_of(caught.error)}"
    if setting is True:
        raise ModelError(f"{reason}; set it to false") from caught.error
    logger.warning("%s; logits are computed in parts instead", reason)
    return None


def _unfit(model: PreTrainedModel, *, with_entropy_gradient: bool) -> str:
    """Why Liger has no kernel for the model, its device and its loss; empty if it has one."""
    if model.device.type != "cuda" or torch.version.hip:
        return f"the kernel needs a GPU of NVIDIA, and the model is on {model.device.type}"
    if torch.cuda.get_device_capability(model.device) != _HOPPER:
        name = torch.cuda.get_device_name(model.device)
        return f"the kernel needs a GPU of the Hopper generation such as H100 or H200, not {name}"
    if model.dtype != torch.bfloat16:
        return f"the kernel needs bfloat16, and the model is in {model.dtype}"
    if not _is_plain(model.get_output_embeddings()):  # type: ignore[no-untyped-call]
        return "the kernel needs an output head without bias and without adapter"
    if with_entropy_gradient:
        return "the kernel's entropy is too coarse for ajet.trainer_common.algorithm.entropy_coeff"
    return ""


def _missing() -> str:
    """The package that is not installed; empty if both are there."""
    packages = {"liger_kernel": "liger-kernel", "cutlass": "nvidia-cutlass-dsl"}
    return next((name for module, name in packages.items() if find_spec(module) is None), "")


def check_fused(model: PreTrainedModel, fused: FusedLoss) -> None:
    """Check that the fused loss and its gradient are those of the logits, on random states.

    Raises:
        ModelError: they differ by more than rounding.
    """
    head: nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    weight: torch.Tensor = head.weight  # type: ignore[assignment]
    vocab_size, width = weight.shape
    generator = torch.Generator().manual_seed(0)
    count = 130  # not a multiple of the kernel's tiles
    states = torch.randn(count, width, generator=generator)
    targets = torch.randint(vocab_size, (count,), generator=generator)
    targets[:2] = torch.tensor([0, vocab_size - 1])
    targets = targets.to(model.device)
    temperature = np.repeat(np.array([0.7, 1.0], np.float32), count // 2)

    def with_gradient(
        compute: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    ) -> list[torch.Tensor]:
        hidden = states.to(model.device, model.dtype).requires_grad_()
        with torch.enable_grad():
            logprobs, entropy = compute(hidden)
            share = torch.linspace(-1, 1, count, device=model.device)
            inputs = [x for x in (hidden, weight) if x.requires_grad]
            grads = torch.autograd.grad((logprobs * share).sum(), inputs)
        return [logprobs.detach(), entropy.detach(), *grads]

    plain = with_gradient(
        lambda hidden: token_logprobs(
            head(hidden), targets, torch.from_numpy(temperature).to(model.device)
        )
    )
    own = with_gradient(lambda hidden: fused.logprobs(head, hidden, targets, temperature))
    names = ("logprobs", "entropies", "gradient of the states", "gradient of the head")
    for name, got, expected in zip(names, own, plain, strict=False):
        difference = float((got.float() - expected.float()).norm() / expected.float().norm())
        if not difference <= _MOST_DIFFERENCE:
            raise ModelError(f"its {name} differ by {difference:.2g} of what the logits give")
