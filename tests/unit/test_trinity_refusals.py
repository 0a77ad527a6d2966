"""What the Trinity backbone cannot honour is refused by name, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ajet.backbone.trinity.refusals import refuse
from ajet.config.loading.load import load_config
from ajet.errors import ConfigError

DEMO = Path("tutorial/example_math_agent/math_agent_cpu.yaml")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trinity.model.model_path=x", "trinity.model.model_path.*ajet.model"),
        ("trinity.buffer.train_batch_size=3", "ajet.data.train_batch_size"),
        ("trinity.algorithm.optimizer.lr=1", "ajet.trainer_common.optim"),
        ("trinity.buffer.trainer_input.experience_buffer.replay_buffer.enable=true", "once"),
        ("trinity.synchronizer.sync_style=explorer_driven", "fixed or fully_async"),
        ("rollout.top_p=0.9", "ajet.rollout.top_p: 0.9"),
        ("rollout.top_k=5", "ajet.rollout.top_k: 5"),
        ("rollout.temperature=0", "ajet.rollout.temperature: 0"),
        ("rollout.dynamic_sampling=true", "ajet.rollout.dynamic_sampling"),
        ("trainer_common.use_kl_loss=true", "ajet.trainer_common.use_kl_loss"),
        ("model.dtype=float16", "bfloat16"),
    ],
)
def test_a_setting_that_cannot_be_honoured_is_refused_by_name(setting, message):
    with pytest.raises(ConfigError, match=message):
        refuse(load_config(DEMO, [setting]).ajet)


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["trinity.synchronizer.sync_style=fully_async"],
        ["trinity.synchronizer.sync_offset=1"],
        ["trinity.algorithm.sample_strategy_args.max_staleness=2"],
        ["trinity.explorer.runner_per_model=4", "trinity.explorer.max_inflight_batches=3"],
        ["trinity.buffer.trainer_input.experience_buffer.capacity=2"],
        ["trinity.trainer.trainer_config.actor.use_torch_compile=true"],
    ],
)
def test_the_demo_and_what_belongs_to_trinity_are_taken(settings):
    refuse(load_config(DEMO, settings).ajet)
