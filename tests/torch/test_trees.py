"""Training in packed trees.

1. For random trees of any shape, the gradient is that of separate sequences, to 1e-5 in float32.
   Whole, in pieces of any size, with gradient checkpointing, with any loss.
2. Each shared prefix is computed once, at any number of levels, within and across episodes.
3. A tree in pieces needs memory for a piece, and for keys and values.
4. Models whose attention a tree cannot have are trained in rows.
"""

from __future__ import annotations

import copy
import itertools
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from ajet.backbone.local import forward, tree_attention
from ajet.backbone.local import trainer as local_trainer
from ajet.backbone.local.branch_cost import branch_cost
from ajet.backbone.local.forward import longest_in_tree, trained_logits
from ajet.backbone.local.micro_batches import PackedTree, pack_tree, plan_trees
from ajet.backbone.local.packed_rows import pack
from ajet.backbone.local.tree_attention import TreeWork
from ajet.schema.episode import Sample
from ajet.training.updates import plan_updates
from tests.make_samples import make_sample
from tests.torch.small_model import VOCABULARY, sampled_by, small_model
from tests.torch.test_forward import CONFIGS, build
from tests.torch.test_trainer import gradient_of, make_trainer

BOUND = 1e-5


def random_tree(seed: int, *, count: int, longest: int, alphabet: int = VOCABULARY) -> list[Sample]:
    """Samples that leave each other at random places; a small alphabet adds chance matches."""
    rng = np.random.default_rng(seed)
    sequences = [rng.integers(1, alphabet, rng.integers(2, longest))]
    while len(sequences) < count:
        trunk = sequences[rng.integers(len(sequences))]
        kept = trunk[: rng.integers(0, len(trunk) + 1)]
        own = rng.integers(1, alphabet, rng.integers(0 if len(kept) > 1 else 2, longest))
        sequences.append(np.concatenate([kept, own]))
    samples = []
    for number, ids in enumerate(sequences):
        trained = np.flatnonzero(rng.random(len(ids) - 1) < 0.4) + 1
        trained = trained if len(trained) else np.array([len(ids) - 1])
        advantage = float(rng.normal())
        episode = f"e{number // 3}"
        samples.append(
            make_sample(ids.tolist(), trained.tolist(), episode_id=episode, advantage=advantage)
        )
    return sampled_by(small_model(), samples)


def separate_gradient(samples: list[Sample], **options: Any) -> torch.Tensor:
    return gradient_of(samples, share_prefixes=False, **options)


def difference(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # explaining a failure would trace torch for minutes
)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 12),
    longest=st.integers(3, 60),
    alphabet=st.sampled_from([3, VOCABULARY]),
    micro_batch_tokens=st.sampled_from([10**6, 64, 32]),
    branch_cost=st.sampled_from([0, 3, 30]),
)
def test_the_gradient_is_that_of_separate_sequences(
    seed: int, count: int, longest: int, alphabet: int, micro_batch_tokens: int, branch_cost: int
) -> None:
    samples = random_tree(seed, count=count, longest=longest, alphabet=alphabet)
    got = gradient_of(samples, micro_batch_tokens=micro_batch_tokens, branch_cost=branch_cost)
    assert difference(got, separate_gradient(samples)) < BOUND


@pytest.mark.parametrize("micro_batch_tokens", [10**6, 40])
@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": {"policy_loss": "gspo"}},
        {"algorithm": {"entropy_coeff": 0.1}},
        {"use_kl_loss": True, "kl_loss_coef": 0.5},
        {"gradient_checkpointing": True},
    ],
    ids=["a loss over whole sequences", "entropy", "kl", "checkpointing"],
)
def test_the_same_with_every_loss(options: dict[str, Any], micro_batch_tokens: int) -> None:
    samples = random_tree(0, count=8, longest=60)
    got = gradient_of(samples, micro_batch_tokens=micro_batch_tokens, **options)
    assert difference(got, separate_gradient(samples, **options)) < BOUND


@pytest.mark.parametrize("micro_batch_tokens", [10**6, 64])
def test_long_chains_in_blocks_give_the_same_gradient(
    micro_batch_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = random_tree(0, count=6, longest=60)
    expected = separate_gradient(samples)
    monkeypatch.setattr(forward, "CPU_BLOCK", 8)
    got = gradient_of(samples, micro_batch_tokens=micro_batch_tokens)
    assert 0 < difference(got, expected) < BOUND


def test_logits_in_parts_give_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = random_tree(0, count=6, longest=60)
    expected = separate_gradient(samples)
    monkeypatch.setattr(forward, "MAX_LOGITS", 7 * VOCABULARY)
    assert difference(gradient_of(samples), expected) < BOUND


class Forgetful:
    """Keys and values of a layer, without the gradients of later pieces."""

    def __init__(self, key: torch.Tensor, num_positions: int) -> None:
        self.keys = key.new_empty((*key.shape[:2], num_positions, key.shape[3]))
        self.values = self.keys.clone()

    @property
    def key_grads(self) -> torch.Tensor:
        return torch.zeros_like(self.keys)

    value_grads = key_grads


def test_gradients_that_later_pieces_lost_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    samples = random_tree(0, count=6, longest=60)
    expected = separate_gradient(samples)
    assert difference(gradient_of(samples, micro_batch_tokens=40), expected) < BOUND
    monkeypatch.setattr(tree_attention, "_empty_memory", Forgetful)
    assert difference(gradient_of(samples, micro_batch_tokens=40), expected) > 100 * BOUND


def test_a_branch_that_does_not_see_its_prefix_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    samples = sampled_by(small_model(), levels([30, 20, 10], 3))
    expected = separate_gradient(samples)
    spans = PackedTree.spans
    monkeypatch.setattr(PackedTree, "spans", lambda *at, **_: [s for s in spans(*at) if s[4]])
    assert longest_in_tree(small_model()) == 0  # the check at the start sees it, and rows are used
    assert difference(gradient_of(samples), expected) < BOUND
    monkeypatch.setattr(local_trainer, "longest_in_tree", lambda model: sys.maxsize)
    assert difference(gradient_of(samples), expected) > 100 * BOUND


def test_bfloat16_stays_close_to_float32() -> None:
    samples = random_tree(0, count=12, longest=60)
    model = small_model(dtype=torch.bfloat16)
    expected = separate_gradient(samples, model=copy.deepcopy(model).float())
    separate = difference(separate_gradient(samples, model=model).float(), expected)
    for micro_batch_tokens in (10**6, 40):
        got = gradient_of(samples, model=model, micro_batch_tokens=micro_batch_tokens)
        assert difference(got.float(), expected) < 1.5 * separate


def levels(widths: list[int], fan_out: int, seed: int = 0) -> list[Sample]:
    """All leaves of a tree with so many new tokens at each level."""
    rng = np.random.default_rng(seed)
    paths = [rng.integers(1, VOCABULARY, widths[0])]
    for width in widths[1:]:
        paths = [
            np.concatenate([path, rng.integers(1, VOCABULARY, width)])
            for path in paths
            for _ in range(fan_out)
        ]
    return [
        make_sample(path.tolist(), [len(path) - 2, len(path) - 1], episode_id=f"e{number}")
        for number, path in enumerate(paths)
    ]


@pytest.mark.parametrize("fan_out", [2, 4])
def test_each_prefix_is_computed_once_at_every_level(fan_out: int) -> None:
    samples = levels([30, 20, 10], fan_out)
    metrics = make_trainer(small_model(), branch_cost=1).update(samples, step=1, policy_version=0)
    inputs = 30 + fan_out * 20 + fan_out**2 * 9
    assert metrics["tokens/computed"] == inputs
    assert metrics["tokens/padding"] == 0


def test_a_query_has_few_spans_even_in_a_deep_tree() -> None:
    """Retries after every call of a long episode: a comb. The trunk is one chain."""
    trunk = np.arange(1, 601)
    rows = [np.append(trunk[:depth], [0] * 20) for depth in range(20, 600, 20)]
    plans = plan_trees([trunk, *rows], max_positions=10**6, branch_cost=1)
    (plan,) = plans
    inputs = [[trunk, *rows][row][:-1] for row in plan.rows]
    tree = pack_tree(inputs, plan.shared, [np.array([0])] * len(inputs))
    covered = np.zeros(len(tree.ids), int)
    for span in tree.branches:
        covered[span.query_start : span.query_end] += 1
    assert covered.max() == 1


def test_the_worst_tree_has_logarithmically_many_spans_per_query() -> None:
    samples = levels([4, 4, 4, 4, 4, 4, 4], 2)
    plans = plan_trees([s.ids for s in samples], max_positions=10**6, branch_cost=0)
    (plan,) = plans
    inputs = [samples[row].ids[:-1] for row in plan.rows]
    tree = pack_tree(inputs, plan.shared, [np.array([0])] * len(inputs))
    covered = np.zeros(len(tree.ids), int)
    for span in tree.branches:
        covered[span.query_start : span.query_end] += 1
    assert covered.max() == math.log2(len(samples))


def test_models_whose_attention_fits_are_trained_in_trees() -> None:
    for name, make in CONFIGS.items():
        longest = longest_in_tree(build(make()))
        assert longest == (8 if "window" in name else sys.maxsize), name


@pytest.mark.parametrize("name", ["qwen2_tied", "llama", "mistral_window", "gemma3_windows"])
def test_trees_give_the_logits_of_every_architecture(name: str) -> None:
    model = build(CONFIGS[name]())
    rows = [np.arange(1, 9), np.array([1, 2, 3, 7, 7, 7, 7, 7]), np.array([1, 2, 9, 9, 9, 9, 9, 9])]
    tree = pack_tree(rows, np.array([0, 3, 2]), [np.arange(8)] * 3)
    with tree_attention.tree_attention(model):
        got = trained_logits(model, tree)
    expected = model(input_ids=torch.from_numpy(np.stack(rows)), use_cache=False).logits
    torch.testing.assert_close(got, expected.flatten(0, 1), rtol=1e-5, atol=1e-6)


def test_sequences_longer_than_a_window_are_trained_in_rows() -> None:
    samples = random_tree(0, count=8, longest=20) + random_tree(1, count=4, longest=5)
    assert any(len(sample) > 8 for sample in samples) and any(len(s) <= 8 for s in samples)
    model = build(CONFIGS["mistral_window"]()).float()
    got = gradient_of(samples, model=model)
    assert difference(got, _by_own_forward(model, samples)) < BOUND


def _by_own_forward(model: PreTrainedModel, samples: list[Sample]) -> torch.Tensor:
    """The gradient of the same loss, through the model's own forward."""
    trainer = make_trainer(model)
    (weighted,) = plan_updates(samples, trainer._settings, step=1)
    total = torch.zeros(())
    for sample, weights in weighted:
        logits = model(input_ids=torch.from_numpy(sample.ids[None]).long(), use_cache=False).logits
        at = np.flatnonzero(sample.loss_mask)
        logprobs = logits[0, at - 1].log_softmax(-1)[range(len(at)), sample.ids[at]]
        batch = pack([(sample, weights)])
        total = total + trainer._loss_of(batch, logprobs, torch.zeros_like(logprobs)).loss
    total.backward()
    flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return flat


def test_the_cost_of_a_branch_is_given_estimated_or_measured() -> None:
    model = small_model()
    assert branch_cost(model, 17) == 17
    assert branch_cost(model, "estimate") == branch_cost(small_model(1), "estimate") > 1
    assert 1 <= branch_cost(model, "measure") < math.inf
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("busy", [False, True])
def test_the_measured_cost_is_the_ratio_of_seconds(
    monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    model, calls = small_model(), itertools.count()

    def seconds(_: object, tree: PackedTree) -> float:
        pause = 1.0 if busy and next(calls) % 4 else 0.0  # another program has the core
        return 0.005 + 1e-4 * len(tree.ids) + 25e-4 * (len(tree.branches) > 0) * 8 + pause

    monkeypatch.setattr("ajet.backbone.local.branch_cost._seconds", seconds)
    assert branch_cost(model, "measure") == pytest.approx(25)
    monkeypatch.setattr("ajet.backbone.local.branch_cost._seconds", lambda *_: 1.0)
    assert branch_cost(model, "measure") == branch_cost(model, "estimate")


@pytest.mark.cuda
def test_trees_on_cuda() -> None:
    samples = random_tree(0, count=12, longest=60)
    model = small_model(dtype=torch.bfloat16).cuda()
    assert longest_in_tree(model) > 10**9
    expected = separate_gradient(samples, model=small_model(dtype=torch.bfloat16).float())
    for micro_batch_tokens in (10**6, 40):
        got = gradient_of(samples, model=model, micro_batch_tokens=micro_batch_tokens)
        assert difference(got.float().cpu(), expected) < 0.05


@pytest.mark.cuda
@pytest.mark.parametrize("width", [8, 64, 128, 256])
def test_attention_of_spans_on_cuda(width: int) -> None:
    """The kernel of GPUs, given the softmax sums of all keys, returns the share of a few."""
    rows = [np.arange(300), np.append(np.arange(200), [7]), np.append(np.arange(120), range(90))]
    tree = pack_tree(rows, np.array([0, 200, 120]), [np.arange(len(row)) for row in rows])
    work = TreeWork(start=0, spans=tree.spans(0, len(tree.ids)), num_positions=len(tree.ids))
    assert any(span.query_end - span.query_start == 1 for span in work.spans)
    generator = torch.Generator().manual_seed(0)
    found = []
    for device, dtype in (("cpu", torch.float64), ("cuda", torch.bfloat16)):
        generator.manual_seed(0)
        query, key, value, share = (
            torch.randn(1, heads, len(tree.ids), width, generator=generator)
            .bfloat16()
            .to(device, dtype)
            .requires_grad_()
            for heads in (4, 2, 2, 4)
        )
        output = tree_attention._TreeAttention.apply(query, key, value, work, None, width**-0.5)
        grads = torch.autograd.grad(output, (query, key, value), share)
        found.append([each.detach().cpu().double() for each in (output, *grads)])
    for expected, got in zip(*found, strict=True):
        assert difference(got, expected) < 0.02


PEAK = """
import sys
from pathlib import Path

import numpy as np

from tests.torch.small_model import VOCABULARY, small_model
from tests.torch.test_trainer import make_sample, make_trainer

trainer = make_trainer(small_model(), micro_batch_tokens=2048)


def peak_mb(length):
    ids = np.random.default_rng(0).integers(1, VOCABULARY, length)
    sample = make_sample(ids.tolist(), list(range(1, length, 3)))
    Path("/proc/self/clear_refs").write_text("5")
    trainer.update([sample], step=1, policy_version=0)
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) / 1024


peak_mb(16)
before = peak_mb(16)
print(before, peak_mb(int(sys.argv[1])))
"""


@pytest.mark.slow
def test_the_memory_of_a_long_sample_follows_the_budget() -> None:
    """16,384 tokens need at most 1.5 times the memory of the 2,048 tokens of the budget."""
    added = {}
    for length in (2048, 16_384):
        command = [sys.executable, "-c", PEAK, str(length)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        before, peak = map(float, done.stdout.split())
        added[length] = peak - before
    weights = sum(p.numel() * 4 for p in small_model().parameters()) / 2**20
    assert added[2048] > 50  # the budget's tokens need memory that the comparison sees
    assert added[16_384] < 1.5 * added[2048] + weights, added
