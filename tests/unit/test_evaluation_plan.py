"""What decides the results of an evaluation, and so whether an interrupted one may continue.

1. Weights of another content are other weights, also in a folder of the same name and size.
2. Edited code of workflow or judge is other code.
3. A setting that may change a result counts; limits, addresses and training do not.
4. Secrets are not written down.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ajet.config.loading.load import load_config
from ajet.evaluation.plan import (
    changed_settings,
    code_digest,
    deciding_settings,
    weights_digest,
)
from tests.unit.config_files import MINIMAL, write

WORKFLOW = "async def work(workflow_task, tuner): ..."
WITH_GAME = f"{MINIMAL}my_game: {{is_slippery: false, api_key: sk-1}}\n"


def test_weights_of_the_same_size_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(3_000_000))
    before = weights_digest(tmp_path)
    assert weights_digest(tmp_path) == before
    file.write_bytes(bytes(2_000_000) + b"\1" + bytes(999_999))
    assert weights_digest(tmp_path) != before


def test_a_trained_model_is_seen_in_a_file_that_is_not_read_in_full(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(20_000_000))
    before = weights_digest(tmp_path)
    file.write_bytes(bytes(12_000_000) + b"\1" * 100_000 + bytes(7_900_000))  # one matrix of many
    assert weights_digest(tmp_path) != before


def test_a_model_of_the_hub_is_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert weights_digest(Path("owner/one")) != weights_digest(Path("owner/two"))


def test_edited_code_is_other_code(tmp_path: Path) -> None:
    file = tmp_path / "agent.py"
    file.write_text(WORKFLOW)
    before = code_digest([f"{file}->work", None])
    assert code_digest([f"{file}->work", None]) == before
    file.write_text(WORKFLOW + "\n")
    assert code_digest([f"{file}->work", None]) != before
    assert code_digest(["ajet.task_judge.rule_judge->RuleJudge", None]) != before


@pytest.mark.parametrize(
    "override",
    [
        "rollout.multi_turn.max_steps=3",
        "rollout.max_response_length_in_one_turn=7",
        "rollout.name=vllm",
        "task_judge.rule.partial=false",
        "task_judge.model.temperature=0.5",
        "model.renderer=qwen3",
        "my_game.is_slippery=true",
        "task_reader.env_service.env_action_preference=text",
    ],
)
def test_a_setting_that_may_change_a_result_counts(tmp_path: Path, override: str) -> None:
    conf = write(tmp_path, WITH_GAME)
    before = deciding_settings(load_config(conf))
    after = deciding_settings(load_config(conf, [override]))
    assert changed_settings(before, after) == [override.partition("=")[0]]


@pytest.mark.parametrize(
    "override",
    [
        "rollout.call_timeout_s=7",
        "rollout.num_repeat=7",
        "task_judge.model.max_retries=9",
        "task_judge.model.base_url=http://127.0.0.1:1/v1",
        "trainer_common.optim.lr=0.1",
        "experiment_name=other",
        "debug.api_key_env=OTHER",
    ],
)
def test_limits_addresses_and_training_do_not_count(tmp_path: Path, override: str) -> None:
    conf = write(tmp_path, WITH_GAME)
    assert deciding_settings(load_config(conf, [override])) == deciding_settings(load_config(conf))


def test_secrets_are_not_written_down(tmp_path: Path) -> None:
    conf = write(tmp_path, WITH_GAME)
    found = deciding_settings(load_config(conf))
    assert found["my_game.api_key"] == "(hidden)"
