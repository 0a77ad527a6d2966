"""What training in trees saves: one sample per call, against merged samples in trees.

Times are CPU seconds of one thread, medians of rounds in which the two ways take turns, through
`PolicyTrainer.update` without the optimizer. The work is counted in floating-point operations of
the forward and backward pass, attention and output head included. `time_ratio` is separate over
shared, and so is `flops_ratio`, the ideal. The model is random: 4 layers of 256.

With `--device cuda`, the model has 0.6 billion parameters in bfloat16 (the shape of Qwen3-0.6B),
times are seconds of the GPU's work, and memory is that of torch on the GPU.

    python benchmarks/merging.py --json [--rounds N] [--only NAME] [--device cuda] [--fused true]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from ajet.backbone.local.micro_batches import common_prefix_length
from ajet.backbone.local.trainer import PolicyTrainer
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.schema.episode import Sample

IDS = 1000
"""Samples contain ids below this number."""
PROMPT, COMPLETION, OBSERVATION = 60, 20, 40


@dataclass(slots=True, kw_only=True, frozen=True)
class Setup:
    """The random model, and where it runs."""

    device: str = "cpu"
    vocabulary: int = IDS
    layers: int = 4
    width: int = 256
    inner: int = 768
    query_heads: int = 8
    key_heads: int = 4
    head_width: int = 32
    fused_loss: Literal["auto"] | bool = "auto"

    def wait(self) -> None:
        """Until the device has done its work."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def clock(self) -> float:
        """Seconds of work since some moment."""
        self.wait()
        return time.perf_counter() if self.device == "cuda" else time.process_time()


CPU = Setup()
GPU = Setup(
    device="cuda",
    vocabulary=151_936,
    layers=28,
    width=1024,
    inner=3072,
    query_heads=16,
    key_heads=8,
    head_width=128,
)

Case = tuple[list[Sample], list[Sample]]
"""One sample per call, and the merged samples."""


def model(setup: Setup = CPU) -> Qwen3ForCausalLM:
    """The same random weights in every call."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=setup.vocabulary,
        hidden_size=setup.width,
        intermediate_size=setup.inner,
        num_hidden_layers=setup.layers,
        num_attention_heads=setup.query_heads,
        num_key_value_heads=setup.key_heads,
        head_dim=setup.head_width,
        tie_word_embeddings=setup.device == "cuda",
        max_position_embeddings=1 << 16,
    )
    made = Qwen3ForCausalLM(config).eval()
    return made if setup.device == "cpu" else made.to(setup.device, torch.bfloat16)


def make_sample(ids: np.ndarray, trained: np.ndarray, episode: str, advantage: float) -> Sample:
    """A sample with loss at the positions `trained`; the ratio to the old policy is near 1."""
    mask = np.zeros(len(ids), np.bool_)
    mask[trained] = True
    return Sample(
        episode_id=episode,
        task_id="task",
        agent_names=("agent",),
        ids=ids.astype(np.int32),
        loss_mask=mask,
        logprobs=np.where(mask, -np.log(IDS), 0).astype(np.float32),
        call_index=np.where(mask, 0, -1).astype(np.int32),
        policy_versions=np.where(mask, 0, -1).astype(np.int32),
        temperature=np.ones(len(ids), np.float32),
        advantages=np.where(mask, advantage, 0).astype(np.float32),
    )


class Timeline:
    """Builds an agent's history call by call, as separate samples and as a merged one."""

    def __init__(self, rng: np.random.Generator, ids: np.ndarray, episode: str = "e0") -> None:
        self._rng, self._episode = rng, episode
        self.ids = ids
        self._advantage = float(rng.normal())
        self._trained: list[int] = []
        self.separate: list[Sample] = []

    def call(self, observation: int = OBSERVATION) -> None:
        """One completion, after an observation of so many tokens."""
        start = len(self.ids) + observation
        added = self._rng.integers(1, IDS, observation + COMPLETION)
        self.ids = np.append(self.ids, added)
        here = np.arange(start, start + COMPLETION)
        self.separate.append(make_sample(self.ids, here, self._episode, self._advantage))
        self._trained += here.tolist()

    def merged(self) -> Sample:
        """The whole history."""
        return make_sample(self.ids, np.array(self._trained), self._episode, self._advantage)


def timeline(calls: int) -> Case:
    """One agent whose history grows."""
    rng = np.random.default_rng(0)
    agent = Timeline(rng, rng.integers(1, IDS, PROMPT))
    agent.call(0)
    for _ in range(calls - 1):
        agent.call()
    return agent.separate, [agent.merged()]


def forks(levels: list[tuple[int, int]]) -> Case:
    """A tree in which each path of a level becomes so many paths with so many more tokens."""
    rng = np.random.default_rng(0)
    paths = [np.zeros(0, np.int64)]
    for fan_out, tokens in levels:
        paths = [
            np.append(path, rng.integers(1, IDS, tokens)) for path in paths for _ in range(fan_out)
        ]
    own = min(COMPLETION, levels[-1][1])
    samples = [
        make_sample(ids, np.arange(len(ids) - own, len(ids)), f"e{number}", float(rng.normal()))
        for number, ids in enumerate(paths)
    ]
    return samples, samples


def branches(count: int, share: int) -> Case:
    """So many sequences of 640 tokens with a common beginning."""
    shared = 640 * share // 100
    return forks([(1, shared), (count, 640 - shared)])


def multi_agent() -> Case:
    """A group of 8 episodes: two agents, each of which forks two sub-agents from its history."""
    rng = np.random.default_rng(0)
    agents = []
    prompts = [rng.integers(1, IDS, 300) for _ in range(2)]
    for episode in range(8):
        for prompt in prompts:
            lead = Timeline(rng, prompt, f"e{episode}")
            helpers = []
            for number in range(8):
                lead.call(OBSERVATION if number else 0)
                if number == 3:
                    helpers = [Timeline(rng, lead.ids, f"e{episode}") for _ in range(2)]
            for helper in helpers:
                for _ in range(4):
                    helper.call()
            agents += [lead, *helpers]
    return [call for agent in agents for call in agent.separate], [a.merged() for a in agents]


CASES: dict[str, Callable[[], Case]] = {
    **{f"timeline of {calls} calls": partial(timeline, calls) for calls in (4, 8, 16, 32, 64)},
    **{
        f"{count} branches of 640 tokens, {share}% shared": partial(branches, count, share)
        for count in (8, 16)
        for share in (50, 80, 95)
    },
    "two fork levels, 300/200/100 tokens": partial(forks, [(1, 300), (4, 200), (4, 100)]),
    "three fork levels, 300/200/100 tokens": partial(
        forks, [(1, PROMPT), (4, 300), (4, 200), (4, 100)]
    ),
    "multi-agent group of 8": multi_agent,
}


class KeptGradient:
    """Stands in for the optimizer: keeps the gradient and leaves the weights alone."""

    def __init__(self, trained: torch.nn.Module) -> None:
        self._trained = trained
        self._grads: list[torch.Tensor] = []

    def update(self, step: int) -> float:
        """Take the gradient away."""
        self._grads = [p.grad for p in self._trained.parameters() if p.grad is not None]
        self._trained.zero_grad()
        return 0.0

    def flat(self) -> torch.Tensor:
        """The gradient of the last update."""
        return torch.cat([grad.flatten() for grad in self._grads])


class Way:
    """One way to train the same calls."""

    def __init__(self, setup: Setup, samples: list[Sample], **settings: Any) -> None:
        self._setup = setup
        # A random model gives all its ids the same probability, so that no ratio is clipped.
        probability = np.float32(-np.log(setup.vocabulary))
        for sample in samples:
            sample.logprobs[sample.loss_mask] = probability
        self._samples = samples
        trained = model(setup)
        common = TrainerCommonConfig(fused_loss=setup.fused_loss, **settings)
        self.trainer = PolicyTrainer(trained, common, total_steps=1)
        self.gradient = KeptGradient(trained)
        self.trainer.optimizer = self.gradient  # type: ignore[assignment]
        self.metrics: dict[str, float] = {}

    def seconds(self) -> float:
        """Seconds of one update."""
        started = self._setup.clock()
        self.metrics = self.trainer.update(self._samples, step=1, policy_version=0)
        return self._setup.clock() - started


def flops(setup: Setup, samples: list[Sample], depths: Iterator[range]) -> float:
    """Operations forward and backward for the depths of all computed positions."""
    positions = pairs = 0
    for part in depths:
        positions += len(part)
        pairs += (part.start + 1 + part.stop) * len(part) // 2
    queries, keys = (n * setup.head_width for n in (setup.query_heads, setup.key_heads))
    per_layer = setup.width * (2 * queries + 2 * keys) + 3 * setup.width * setup.inner
    # The backward pass of attention computes the scores again: 2.5 times the forward pass.
    attention = 3.5 * 4 * setup.layers * queries * pairs
    head = 6 * setup.width * setup.vocabulary * sum(each.num_trained for each in samples)
    return 6.0 * setup.layers * per_layer * positions + attention + head


def separate_depths(samples: list[Sample]) -> Iterator[range]:
    """Depths that separate sequences compute."""
    yield from (range(len(each) - 1) for each in samples)


def shared_depths(samples: list[Sample]) -> Iterator[range]:
    """Depths that the smallest tree computes."""
    before = np.zeros(0, np.int32)
    for ids in sorted((each.ids[:-1] for each in samples), key=lambda ids: ids.tobytes()):
        yield range(common_prefix_length(before, ids), len(ids))
        before = ids


def peak_mb(setup: Setup, work: Callable[[], object]) -> float:
    """Highest memory while it works, in MB: of this process, or of torch on the GPU."""
    if setup.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() / 2**20
    Path("/proc/self/clear_refs").write_text("5")
    work()
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) / 1024


def measure(setup: Setup, name: str, make: Callable[[], Case], rounds: int) -> dict[str, Any]:
    """One row of the table."""
    separate, merged = make()
    ways = [
        Way(setup, separate, share_prefixes=False),
        Way(setup, merged, branch_cost="measure"),
    ]
    peak = peak_mb(setup, ways[1].seconds)
    ways[0].seconds()
    apart, together = (way.gradient.flat().float() for way in ways)
    times = [[way.seconds() for way in ways] for _ in range(rounds)]
    seconds = [median(column) for column in zip(*times, strict=True)]
    works = [
        flops(setup, separate, separate_depths(separate)),
        flops(setup, merged, shared_depths(merged)),
    ]
    ideal = works[0] / works[1]
    ratio = seconds[0] / seconds[1]
    return {
        "name": name,
        "tokens_separate": int(ways[0].metrics["tokens/computed"]),
        "tokens_shared": int(ways[1].metrics["tokens/computed"]),
        "flops_ratio": round(ideal, 3),
        "seconds_separate": round(seconds[0], 4),
        "seconds_shared": round(seconds[1], 4),
        "gflops_separate": round(works[0] / seconds[0] / 1e9, 1),
        "gflops_shared": round(works[1] / seconds[1] / 1e9, 1),
        "time_ratio": round(ratio, 3),
        "of_ideal": round(ratio / ideal, 3),
        "grad_rel_diff": float((together - apart).norm() / apart.norm()),
        "peak_mb": round(peak, 1),
    }


def main() -> None:
    """Print the rows, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--fused", choices=["auto", "true", "false"], default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    fused = {"auto": "auto", "true": True, "false": False}[options.fused]
    setup = replace(GPU if options.device == "cuda" else CPU, fused_loss=fused)
    rows = []
    for name, make in CASES.items():
        if options.only in name:
            rows.append(measure(setup, name, make, options.rounds))
            if not options.json:
                print(rows[-1], flush=True)
    if options.json:
        head = {"device": options.device, "threads": 1, "rounds": options.rounds}
        print(json.dumps(head | {"cases": rows}, indent=1))


if __name__ == "__main__":
    main()
