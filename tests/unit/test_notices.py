"""A setting without effect, or with a surprising one, is named once."""

from __future__ import annotations

import pytest

from ajet.config.loading.hints import hints
from tests.unit.config_files import MINIMAL, load


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ([], []),
        (["trainer_common.critic.lr=1e-4"], ["ajet.trainer_common.critic has no effect without"]),
        (["trainer_common.critic.lr=1e-4", "trainer_common.algorithm.adv_estimator=gae"], []),
        (["rollout.schedule=lockstep"], []),
        (["backbone=trinity", "rollout.vllm.num_engines=2"], []),
        (["rollout.vllm.num_engines=2"], ["ajet.rollout.vllm has no effect with the engine emb"]),
        (
            ["rollout.name=vllm", "rollout.schedule=lockstep"],
            ["ajet.rollout.schedule has no effect with the engine vllm"],
        ),
        (["rollout.name=vllm", "rollout.vllm.num_engines=2"], []),
        (
            [
                "rollout.name=vllm",
                "rollout.vllm.base_url=http://a:1",
                "rollout.vllm.num_engines=2",
            ],
            ["ajet.rollout.vllm.num_engines has no effect on servers that already run"],
        ),
        (
            ["context_tracker.timeline_merging_policy.timeline_compare_level=text"],
            ["ajet.context_tracker.timeline_merging_policy.timeline_compare_level: "],
        ),
    ],
)
def test_settings_without_effect_are_named(tmp_path, overrides, named):
    lines = hints(load(tmp_path, MINIMAL, *overrides).ajet)
    assert len(lines) == len(named)
    assert all(line.startswith(start) for line, start in zip(lines, named, strict=True))
