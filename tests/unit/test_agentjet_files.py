"""Files written for AgentJet.

1. A key with another name here sets ours; giving both names is an error.
2. A key without effect is accepted and named, with the reason.
3. A value that cannot be honoured is refused by name, with what to use.
4. The special words mean what they mean in AgentJet.
5. `defaults: [ajet_default]` gives the documented defaults; the file's own values replace them.
6. A mistyped name of AgentJet's gets the right suggestion.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ajet.config.agentjet_page import page
from ajet.config.loading.load import load_config
from ajet.config.reference import write_or_check
from ajet.config.sections.root import RootConfig
from ajet.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]

MINIMAL = """\
ajet:
  model: {path: hub/name}
  backbone: local
  task_reader: {type: random_dummy}
"""
ROLLOUT = "  rollout: {user_workflow: package.module->Agent%s}\n"


def load(folder: Path, text: str, *overrides: str) -> RootConfig:
    path = folder / "my_run.yaml"
    path.write_text(text)
    return load_config(path, overrides)


def refusals(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def rollout(*settings: str) -> str:
    return MINIMAL + ROLLOUT % "".join(f", {setting}" for setting in settings)


def trainer(settings: str, backbone: str = "local") -> str:
    text = rollout() + f"  trainer_common: {{{settings}}}\n"
    return text.replace("backbone: local", f"backbone: {backbone}")


@pytest.mark.parametrize(
    ("setting", "path", "expected"),
    [
        ("n_vllm_engine: 2", "rollout.vllm.num_engines", 2),
        ("tensor_model_parallel_size: 4", "rollout.vllm.options", {"tensor_parallel_size": 4}),
        ("tensor_model_parallel_size: 1", "rollout.vllm.options", {}),
        ("gpu_memory_utilization: 0.85", "rollout.vllm.options", {"gpu_memory_utilization": 0.85}),
        ("top_k: -1", "rollout.top_k", 0),
        ("val_kwargs: {temperature: 0.0}", "rollout.validation.temperature", 0.0),
    ],
)
def test_a_renamed_key_sets_ours(tmp_path, caplog, setting, path, expected):
    value = load(tmp_path, rollout(setting)).ajet
    for name in path.split("."):
        value = getattr(value, name)
    assert value == expected
    assert caplog.messages == []


def test_a_renamed_key_works_on_the_command_line(tmp_path):
    config = load(tmp_path, rollout(), "rollout.n_vllm_engine=3")
    assert config.ajet.rollout.vllm.num_engines == 3


def test_both_names_of_one_setting_are_an_error(tmp_path):
    text = rollout("n_vllm_engine: 2", "vllm: {num_engines: 3}")
    assert refusals(tmp_path, text) == [
        "my_run.yaml:5: ajet.rollout.n_vllm_engine: also given as ajet.rollout.vllm.num_engines, "
        "at my_run.yaml:5; remove one"
    ]


def test_a_key_without_effect_is_named_with_the_reason(tmp_path, caplog):
    load(tmp_path, rollout("mode: async"))
    assert [message.partition("my_run.yaml:")[2] for message in caplog.messages] == [
        "5: ajet.rollout.mode has no effect: calls are always asynchronous"
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            rollout("gamma: 0.9"),
            "my_run.yaml:5: ajet.rollout.gamma: got 0.9, expected 1; use a reward per call "
            "(a list in WorkflowOutput.reward)",
        ),
        (
            trainer("algorithm: {use_kl_in_reward: true}"),
            "my_run.yaml:6: ajet.trainer_common.algorithm.use_kl_in_reward: got True, expected "
            "False, or the backbone verl",
        ),
    ],
)
def test_a_value_that_cannot_be_honoured_is_refused_with_what_to_use(tmp_path, text, line):
    assert refusals(tmp_path, text) == [line]


def test_a_setting_of_verl_is_handed_to_verl_by_that_backbone_only(tmp_path, caplog):
    text = "ulysses_sequence_parallel_size: 2, fsdp_config: {param_offload: true}"
    actor = load(tmp_path, trainer(text, "verl")).ajet.verl.actor_rollout_ref.actor
    assert actor.ulysses_sequence_parallel_size == 2
    assert actor.fsdp_config == {"param_offload": True}
    assert caplog.messages == []
    assert load(tmp_path, trainer(text, "local")).ajet.verl == {}
    assert len(caplog.messages) == 2


def test_the_special_words_mean_what_they_mean_in_agentjet(tmp_path):
    words = "  experiment_name: read_yaml_name\n  experiment_dir: auto\n"
    ajet = load(tmp_path, rollout() + words).ajet
    assert (ajet.experiment_name, ajet.experiment_dir) == ("my_run", "saved_experiments")


def test_a_learning_rate_that_yaml_reads_as_a_text_is_a_number(tmp_path):
    assert load(tmp_path, trainer('optim: {lr: "1e-6"}')).ajet.trainer_common.optim.lr == 1e-6


def test_sections_of_verl_at_the_top_level_are_named(tmp_path, caplog):
    load(tmp_path, rollout() + "trainer: {logger: [console]}\n")
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith(
        "trainer: read as a section of your own; settings of verl belong below `verl:`"
    )


def test_the_mark_of_an_agentjet_file_gives_the_documented_defaults(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    mark = "hydra: {searchpath: [x]}\ndefaults: [verl_default, ajet_default, _self_]\n"
    ajet = load(tmp_path, rollout("temperature: 0.5") + mark).ajet
    assert (ajet.rollout.num_repeat, ajet.data.train_batch_size) == (4, 32)
    assert ajet.trainer_common.use_kl_loss
    assert ajet.rollout.temperature == 0.5
    assert len(caplog.messages) == 1
    assert load(tmp_path, rollout()).ajet.rollout.num_repeat == 8


def test_a_mistyped_name_of_agentjet_gets_its_own_suggestion(tmp_path):
    line = refusals(tmp_path, rollout("tensor_model_paralel_size: 2"))[0]
    assert 'did you mean "tensor_model_parallel_size"?' in line


def test_the_page_is_not_stale(tmp_path):
    assert write_or_check(ROOT / "docs/from_agentjet.md", page(), check=True) == 0
    assert write_or_check(tmp_path / "missing.md", page(), check=True) == 1
