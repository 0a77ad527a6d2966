"""What the verl backbone refuses, before anything of verl is imported.

1. A setting under `verl:` that AgentJet decides is refused with the setting that decides it.
2. A setting of ours that verl cannot honour is refused.
3. Everything else goes to verl.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ajet.backbone.verl.refusals import OURS, refuse
from ajet.config.loading.load import load_config
from ajet.config.sections.root import AjetConfig
from ajet.errors import ConfigError

DEMO = Path("tutorial/example_math_agent/math_agent_cpu.yaml")


def settings(*overrides: str) -> AjetConfig:
    return load_config(DEMO, ["ajet.backbone=verl", *overrides]).ajet


def test_the_demo_is_accepted():
    refuse(settings())


@pytest.mark.parametrize(
    ("override", "instead"),
    [
        ("ajet.verl.trainer.save_freq=3", "ajet.trainer_common.save_freq"),
        ("ajet.verl.actor_rollout_ref.rollout.n=3", "ajet.rollout.num_repeat"),
        ("ajet.verl.actor_rollout_ref.actor.optim.lr=1", "ajet.trainer_common.optim"),
        ("ajet.verl.data.train_batch_size=1", "ajet.data"),
        ("ajet.verl.critic.optim.lr=1", "ajet.trainer_common.critic"),
        ("ajet.verl.actor_rollout_ref.model.lora.rank=8", "nothing: .*lora_rank"),
        ("ajet.verl.algorithm.adv_estimator=gae", "ajet.trainer_common.algorithm"),
    ],
)
def test_what_agentjet_decides_is_refused_with_the_setting_that_decides_it(override, instead):
    key = override.removeprefix("ajet.").partition("=")[0]
    with pytest.raises(ConfigError, match=rf"{key}: AgentJet decides this.*{instead}"):
        refuse(settings(override))


@pytest.mark.parametrize(
    "override",
    [
        "ajet.rollout.top_p=0.9",
        "ajet.rollout.top_k=5",
        "ajet.rollout.temperature=0",
        "ajet.model.dtype=float16",
        "ajet.rollout.vllm.num_engines=2",
    ],
)
def test_what_verl_cannot_honour_is_refused_by_name(override):
    with pytest.raises(ConfigError, match=override.partition("=")[0].rpartition(".")[2]):
        refuse(settings(override))


@pytest.mark.parametrize(
    "override",
    [
        "ajet.verl.actor_rollout_ref.model.lora_rank=8",
        "ajet.verl.actor_rollout_ref.rollout.tensor_model_parallel_size=2",
        "ajet.verl.actor_rollout_ref.rollout.nnodes=1",
        "ajet.verl.critic.fsdp.param_offload=true",
    ],
)
def test_what_agentjet_does_not_decide_is_verls(override):
    refuse(settings(override))


def test_more_processes_than_episodes_are_refused():
    refuse(settings("ajet.rollout.ray_actors=4", "ajet.rollout.max_env_worker=4"))
    with pytest.raises(ConfigError, match="ray_actors: 4 processes for at most 3 episodes"):
        refuse(settings("ajet.rollout.ray_actors=4", "ajet.rollout.max_env_worker=3"))


def test_processes_that_would_all_listen_on_one_port_are_refused():
    refuse(settings("ajet.interchange_server.port=8123"))
    with pytest.raises(ConfigError, match=r"interchange_server\.port: .* use 0"):
        refuse(settings("ajet.rollout.ray_actors=2", "ajet.interchange_server.port=8123"))


def test_every_refusal_says_what_to_use():
    assert all(instead.startswith(("ajet.", "--", "nothing")) for instead in OURS.values())
