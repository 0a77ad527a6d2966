"""Supervised warm-up of the tiny model on the teacher's demonstrations, in two stages.

The first stage teaches the skills of a task: its format, copying, looking up. Some skills, such as
copying digits, appear late and suddenly, so the stage has a fixed number of updates and is judged
by held-out success, not by loss. The second stage adds bad habits, which leave something for RL to
improve.

Everything is seeded: on one thread and one kind of CPU, two runs are equal bit for bit.
"""

import logging
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen3Config, Qwen3ForCausalLM

from tutorial.tiny_models.conversation import Demonstrate, Demonstration

logger = logging.getLogger(__name__)

MAX_LENGTH = 2048
"""Tokens of context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pass of supervised training."""

    demonstrate: Demonstrate
    """Makes the stage's demonstrations."""
    updates: int
    batch_size: int
    """Demonstrations per update."""
    learning_rate: float
    """Peak learning rate; it falls to a twentieth along a cosine."""
    ramp_updates: int
    """Updates until the peak learning rate."""
    muon: bool
    """True: Muon for matrices and AdamW for the rest. False: AdamW for all."""
    context_weight: float
    """Loss weight of the tokens that the policy does not sample, from the question on."""
    window: int = 1
    """Batches whose demonstrations are sorted by length among each other. More save padding, where
    lengths differ much."""

    @property
    def num_demonstrations(self) -> int:
        """Number of demonstrations; each is used once."""
        return self.updates * self.batch_size


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """A Qwen3 model; the defaults have about 0.46M parameters with 660 tokens."""

    hidden_size: int = 96
    num_hidden_layers: int = 3
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 32
    intermediate_size: int = 256


def make_model(vocab_size: int, size: ModelSize, seed: int) -> Qwen3ForCausalLM:
    """A randomly initialised Qwen3, embeddings untied."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocab_size,
        **asdict(size),
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=False,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
        dtype="float32",
    )
    return Qwen3ForCausalLM(config)


def warm_up(model: Qwen3ForCausalLM, demonstrations: Sequence[Demonstration], stage: Stage) -> None:
    """Train in place on the stage's number of demonstrations.

    Batches mix long and short demonstrations unless the stage has a window. Sorted by length they
    cost a third less; but where length goes with a habit, as short guesses do, how often the model
    has that habit then depends on the last few batches.
    """
    assert len(demonstrations) == stage.num_demonstrations
    constant = _common_prefix_length(demonstrations)
    batches = _batches(demonstrations, stage)
    optimizers = _optimizers(model, stage)
    model.train()
    for update in range(stage.updates):
        rate = stage.learning_rate * _schedule(update, stage)
        for optimizer in optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = rate
        loss = _loss(model, batches[update], constant, stage.context_weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if update % 50 == 0:
            logger.info("update %d of %d, loss %.3f", update, stage.updates, loss.item())
    model.eval()


def _batches(demonstrations: Sequence[Demonstration], stage: Stage) -> list[list[Demonstration]]:
    batches = []
    for start in range(0, len(demonstrations), stage.window * stage.batch_size):
        some = list(demonstrations[start : start + stage.window * stage.batch_size])
        if stage.window > 1:
            some.sort(key=lambda demonstration: len(demonstration.token_ids))
        cut = [some[i : i + stage.batch_size] for i in range(0, len(some), stage.batch_size)]
        random.Random(start).shuffle(cut)
        batches += cut
    return batches


def _optimizers(model: Qwen3ForCausalLM, stage: Stage) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2] if stage.muon else []
    taken = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in taken]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, betas=(0.9, 0.95), weight_decay=0.0)
    ]
    if matrices:
        muon = torch.optim.Muon(matrices, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
        optimizers.append(muon)
    return optimizers


def _schedule(update: int, stage: Stage) -> float:
    """The share of the peak learning rate: a ramp, then a cosine to a twentieth."""
    ramp = min(1.0, (update + 1) / stage.ramp_updates)
    cosine = 0.5 * (1 + math.cos(math.pi * update / stage.updates))
    return ramp * (0.05 + 0.95 * cosine)


def _loss(
    model: Qwen3ForCausalLM, batch: Sequence[Demonstration], constant: int, context_weight: float
) -> torch.Tensor:
    """Weighted mean cross entropy, in nats."""
    ids = pad_sequence([torch.tensor(d.token_ids) for d in batch], batch_first=True)
    weights = [_weights(d, constant, context_weight) for d in batch]
    weight, targets = pad_sequence(weights, batch_first=True)[:, 1:], ids[:, 1:]
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    keep = weight > 0
    losses = F.cross_entropy(model.lm_head(hidden[keep]), targets[keep], reduction="none")
    return (losses * weight[keep]).sum() / weight.sum()


def _weights(demonstration: Demonstration, constant: int, context_weight: float) -> torch.Tensor:
    """[L] float32: 0 for `constant` tokens, then 1 where trained, else the context's or 0."""
    sampled, trained = torch.tensor(demonstration.sampled), torch.tensor(demonstration.trained)
    weights = torch.where(sampled, trained.float(), context_weight)
    weights[:constant] = 0.0
    return weights


def _common_prefix_length(demonstrations: Sequence[Demonstration]) -> int:
    """Number of tokens at the start that all demonstrations share: system message, user header."""
    columns = zip(*(demonstration.token_ids for demonstration in demonstrations), strict=False)
    return next(i for i, column in enumerate(columns) if len(set(column)) > 1)
