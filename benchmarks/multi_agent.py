"""A step of a multi-agent workflow, trained as one sample per call and as merged samples in trees.

Two agents with histories of their own make eight calls each. After the fourth, each forks two
sub-agents, which continue its history with four calls of their own. A group of eight episodes is
sampled by the local backbone's engine through the gateway, from a random model of 4 layers of 256,
and one training step is made from it, optimizer included, in both ways and from the same weights.

- `time_ratio`: CPU seconds of the step with one sample per call over those with trees.
- `weights_rel_diff`: how far the two resulting sets of weights are apart, as a share of how far the
  step has moved them (Euclidean norms over all weights).
- `largest_diff`: the largest difference of one weight.

    python benchmarks/multi_agent.py --json [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import yaml
from openai import AsyncOpenAI
from transformers import PreTrainedModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for those who run this file

from ajet import AjetTuner, Task, Workflow, WorkflowOutput, WorkflowTask
from ajet.algorithm.credit import credit_rule
from ajet.backbone.local.entry import EmbeddedServing
from ajet.backbone.local.policy import LocalPolicy, load_policy
from ajet.backbone.local.trainer import PolicyTrainer
from ajet.config.loading.load import load_config
from ajet.config.sections.root import RootConfig
from ajet.context_tracker.samples import build_samples
from ajet.gateway.gateway import Gateway
from ajet.gateway.request import SamplingDefaults
from ajet.schema.episode import Call, Episode, Group, Sample
from ajet.task_rollout.rollout import Rollout
from ajet.task_runner.episode_run import EpisodeRunner
from benchmarks.merging import model

TOKENIZER = Path(__file__).resolve().parents[1] / "ajet/tiny_model/calculator"
GROUP, CALLS, FORK_AT, SUB_AGENTS, SUB_CALLS = 8, 8, 4, 2, 4
RULES = "Read every note, compute what is asked, and say what is still open. " * 12

Messages = list[dict[str, Any]]


class Researchers(Workflow):
    """Two agents, each of which forks sub-agents from its history."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Both agents at the same time; the reward prefers short answers."""
        said = await asyncio.gather(
            *(self._lead(tuner, name, workflow_task.task.main_query) for name in ("a", "b"))
        )
        return WorkflowOutput(reward=-float(np.mean([len(text) for text in sum(said, [])])))

    async def _lead(self, tuner: AjetTuner, name: str, query: str) -> list[str]:
        client = tuner.as_raw_openai_sdk_client(agent_name=name)
        messages: Messages = [{"role": "system", "content": f"You are {name}. {RULES}"}]
        said = await self._work(client, messages, FORK_AT, query)
        forked = [
            self._work(client, copy.deepcopy(messages), SUB_CALLS, f"sub-agent {number}: {query}")
            for number in range(SUB_AGENTS)
        ]
        rest = await asyncio.gather(self._work(client, messages, CALLS - FORK_AT, query), *forked)
        return said + sum(rest, [])

    async def _work(
        self, client: AsyncOpenAI, messages: Messages, calls: int, query: str
    ) -> list[str]:
        """Continue a history by so many calls."""
        said = []
        for number in range(calls):
            note = f"note {number}: {query} " + "12 + 7 * 3 is 33. " * 3
            messages.append({"role": "user", "content": note})
            create: Any = client.chat.completions.create
            message = (await create(model="policy", messages=messages)).choices[0].message
            messages.append(message.model_dump(exclude_none=True))
            said.append(message.content or "")
        return said


def make_policy(folder: Path) -> tuple[RootConfig, LocalPolicy]:
    """The configuration and a random model with the tokenizer of the demo."""
    model().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, folder / name)
    settings = {
        "ajet": {
            "model": {"path": str(folder), "renderer": "qwen3", "enable_thinking": False},
            "rollout": {"user_workflow": f"{__file__}->Researchers"},
            "task_reader": {"type": "random_dummy"},
        }
    }
    conf = folder / "multi_agent.yaml"
    conf.write_text(yaml.safe_dump(settings))
    config = load_config(conf)
    return config, load_policy(config.ajet.model)


def sample_group(config: RootConfig, policy: LocalPolicy) -> Group:
    """One group of episodes, with advantages."""
    serving = EmbeddedServing(policy, config.ajet.rollout, seed=0, policy_version=0)
    gateway = Gateway(
        chat_format=policy.chat_format,
        engine=serving.engine,
        defaults=SamplingDefaults(max_tokens=20, temperature=1.0),
    )
    runner = EpisodeRunner(workflow_class=Researchers, gateway=gateway, config=config, judge=None)
    task = Task(main_query="what is 12 + 7 * 3?", task_id="t")
    try:
        groups = Rollout(runner=runner, seed=0).run([task], num_repeat=GROUP, tag="train/000001")
    finally:
        runner.http_endpoint.close()
        serving.close()
    credit_rule("grpo")(groups)
    return groups[0]


def one_sample_per_call(episode: Episode) -> list[Sample]:
    """Each call's whole prompt and its completion, with the advantage that the call has."""
    by_id = {call.call_id: call for call in episode.calls}
    advantages: dict[int, float] = {}
    for sample in episode.samples:
        assert sample.advantages is not None, "they were given credit"
        here = sample.loss_mask
        advantages |= dict(
            zip(sample.call_index[here].tolist(), sample.advantages[here].tolist(), strict=True)
        )
    samples = []
    for call in episode.calls:
        whole = replace(call, parent_id=None, delta_ids=_prompt(call, by_id))
        (sample,), _ = build_samples([whole], episode.episode_id, episode.task.task_id)
        sample.advantages = np.where(
            sample.loss_mask, np.float32(advantages[call.index]), np.float32(0)
        )
        samples.append(sample)
    return samples


def _prompt(call: Call, by_id: dict[str, Call]) -> np.ndarray:
    """[prompt length] int32: the call's prompt, from what was recorded."""
    parts = [call.delta_ids]
    while call.parent_id is not None:
        call = by_id[call.parent_id]
        parts += [call.completion_ids, call.delta_ids]
    return np.concatenate(parts[::-1])


class Way:
    """One way to make the step."""

    def __init__(
        self, config: RootConfig, start: PreTrainedModel, samples: list[Sample], **settings: Any
    ) -> None:
        self._start, self._samples = start, samples
        self._settings = config.ajet.trainer_common.model_copy(update=settings)
        self.metrics: dict[str, float] = {}
        self.weights = torch.zeros(0)

    def seconds(self) -> float:
        """CPU seconds of the step, from the same weights in each call."""
        trained = copy.deepcopy(self._start)
        trainer = PolicyTrainer(trained, self._settings, total_steps=10)
        started = time.process_time()
        self.metrics = trainer.update(self._samples, step=1, policy_version=0)
        took = time.process_time() - started
        self.weights = flat(trained)
        return took


def flat(of: PreTrainedModel) -> torch.Tensor:
    """All weights of a model."""
    return torch.cat([p.detach().flatten().double() for p in of.parameters()])


def measure(rounds: int) -> dict[str, Any]:
    """Sample the group and train on it in both ways, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        config, policy = make_policy(Path(folder))
        group = sample_group(config, policy)
    merged = [sample for episode in group.episodes for sample in episode.samples]
    separate = [sample for episode in group.episodes for sample in one_sample_per_call(episode)]
    start = policy.model
    ways = [
        Way(config, start, separate, share_prefixes=False),
        Way(config, start, merged, branch_cost="measure"),
    ]
    times = [[way.seconds() for way in ways] for _ in range(rounds)]
    seconds = [median(column) for column in zip(*times, strict=True)]
    apart, together = (way.weights for way in ways)
    moved = (apart - flat(start)).norm()
    return {
        "episodes": len(group.episodes),
        "calls": len(separate),
        "samples": len(merged),
        "tokens_separate": int(ways[0].metrics["tokens/computed"]),
        "tokens_shared": int(ways[1].metrics["tokens/computed"]),
        "seconds_separate": round(seconds[0], 3),
        "seconds_shared": round(seconds[1], 3),
        "time_ratio": round(seconds[0] / seconds[1], 2),
        "weights_rel_diff": float((together - apart).norm() / moved),
        "largest_diff": float((together - apart).abs().max()),
        "largest_change": float((apart - flat(start)).abs().max()),
        "rounds": rounds,
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="accepted; it is the only form")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(measure(options.rounds), indent=1))


if __name__ == "__main__":
    main()
