"""Files written for AgentJet.

1. A key with another name here sets ours; giving both names is an error.
2. A key without effect is accepted and named, with the reason.
3. A value that cannot be honoured is refused by name, with what to use.
4. The special words mean what they mean in AgentJet.
5. `defaults: [ajet_default]` gives the documented defaults; the file's own values replace them.
6. A mistyped name of AgentJet's gets the right suggestion.
7. The settings of AgentJet's own files load on the backbone that they name, on a machine without
   their data; only a run of them needs what they name.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from ajet.config.agentjet_page import page
from ajet.config.loading.load import as_our_yaml, load_config, require_available, to_yaml
from ajet.config.loading.yaml_file import parse_yaml
from ajet.config.reference import write_or_check
from ajet.config.sections.root import RootConfig
from ajet.config.sections.trainer_common import METRIC_SINKS
from ajet.diagnostics.check_inputs import other_defaults
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
        ("compute_madness_checklist: None", "rollout.compute_madness_checklist", []),
        ("compute_madness_checklist: null", "rollout.compute_madness_checklist", []),
        ("agentscope_disable_toolcalls: true", "rollout.force_disable_toolcalls", True),
        ("val_kwargs: null", "rollout.validation.temperature", None),
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


@pytest.mark.parametrize(
    "both",
    [
        "n_vllm_engine: 2, vllm: {num_engines: 2}",
        "n_vllm_engine: 2, vllm: {num_engines: null}",
        "n_vllm_engine: 2, vllm: null",
        "vllm: {num_engines: 2}, n_vllm_engine: null",
    ],
)
def test_both_names_may_be_there_where_they_say_the_same(tmp_path, both):
    assert load(tmp_path, rollout(both)).ajet.rollout.vllm.num_engines == 2


def test_a_bad_value_is_shown_under_the_name_that_the_file_has(tmp_path):
    assert refusals(tmp_path, trainer("mini_batch_num: 0")) == [
        "my_run.yaml:6: ajet.trainer_common.mini_batch_num: got 0, expected an integer above 0"
    ]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("val_kwargs: {temprature: 0}", 'val_kwargs.temprature: unknown key; did you mean "temp'),
        ("val_kwargs: 3", "val_kwargs: expected a section"),
        ("vllm: 3, n_vllm_engine: 2", "vllm.num_engines here, and the file has a value in place"),
    ],
)
def test_what_stands_in_place_of_a_section_is_not_lost(tmp_path, given, line):
    assert line in "\n".join(refusals(tmp_path, rollout(given)))


@pytest.mark.parametrize("name", ["trainer_common", "task_reader"])
def test_agentjets_defaults_do_not_replace_what_the_file_has(tmp_path, name):
    text = rollout().replace("  task_reader: {type: random_dummy}\n", "") + f"  {name}: text\n"
    lines = refusals(tmp_path, text + "defaults: [ajet_default]\n")
    assert f'ajet.{name}: got "text", expected a section' in "\n".join(lines)


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


@pytest.mark.parametrize(
    ("settings", "path", "expected"),
    [
        ("save_freq: 0", "save_freq", None),
        ("loss_weight_normalization_episode_level: true", "algorithm.loss_agg", "episodes"),
        ("loss_weight_normalization_episode_level: false", "algorithm.loss_agg", "tokens"),
        ("ppo_epochs: null", "seed", 0),
        ("optim: {total_training_steps: -1}, total_training_steps: null", "save_freq", None),
        ("optim: {total_training_steps: -1}, total_training_steps: 9", "total_training_steps", 9),
    ],
)
def test_values_that_mean_something_in_agentjet_only(tmp_path, settings, path, expected):
    value = load(tmp_path, trainer(settings)).ajet.trainer_common
    for name in path.split("."):
        value = getattr(value, name)
    assert value == expected


@pytest.mark.parametrize(
    ("settings", "choice", "number"),
    [
        ("val_max_num_task_clip_method: fix_seed_random_n", "random", None),
        (
            "val_max_num_task_each_validation: 9, val_max_num_task_clip_method: fix_seed_random_n",
            "random",
            9,
        ),
        ("val_max_num_task_each_validation: 9, val_max_num_task_clip_method: first_n", "first", 9),
        ("val_max_num_task_clip_method: random_n", "first", None),
    ],
)
def test_which_validation_tasks_are_run(tmp_path, settings, choice, number):
    validation = load(tmp_path, trainer(settings)).ajet.rollout.validation
    assert (validation.task_choice, validation.num_tasks) == (choice, number)


def test_another_choice_of_validation_tasks_each_time_is_refused(tmp_path):
    text = "val_max_num_task_each_validation: 9, val_max_num_task_clip_method: random_n"
    assert refusals(tmp_path, trainer(text)) == [
        'my_run.yaml:6: ajet.trainer_common.val_max_num_task_clip_method: got "random_n", '
        'expected "first_n" or "fix_seed_random_n"'
    ]


OLDER_GRADER = """\
  task_judge:
    judge_type: rubrics_auto_grader
    rubrics_auto_grader:
      min_score: 1
      max_score: 5
      success_threshold: 4
      sampling_mode: all_samples
      generate_number: 2
      max_epochs: 2
      max_retries: 3
      aggregation_mode: keep_all
      num_reference_samples: 7
      input_data_type: dataset_file
      dataset_file: {training: {file_path: labelled.jsonl}}
"""


def test_the_settings_of_agentjets_older_grader(tmp_path, caplog):
    text = rollout() + OLDER_GRADER
    grader = load(tmp_path, text).ajet.task_judge.rubrics_auto_grader
    assert (grader.success_at, grader.max_samples) == (0.75, 7)
    assert grader.query_specific_generate_number == 2
    assert grader.jsonl_dataset_file.training.file_path == "labelled.jsonl"
    assert len(caplog.messages) == 4
    assert grader.enable_categorization
    marked = load(tmp_path, text + "defaults: [ajet_default]\n").ajet
    assert not marked.task_judge.rubrics_auto_grader.enable_categorization
    plain = load(tmp_path, rollout() + "defaults: [ajet_default]\n").ajet
    assert plain.task_judge.rubrics_auto_grader.enable_categorization


@pytest.mark.parametrize(
    ("given", "isolation"), [("asyncio-with-gc", "threads"), ("multi-processing", "process")]
)
def test_the_wrapper_of_workflows_is_the_isolation(tmp_path, given, isolation):
    text = rollout() + f"  task_runner: {{wrapper_type: {given}}}\n"
    assert load(tmp_path, text).ajet.task_runner.isolation == isolation


def test_a_setting_of_verl_is_handed_to_verl_by_that_backbone_only(tmp_path, caplog):
    text = "ulysses_sequence_parallel_size: 2, fsdp_config: {param_offload: true}"
    actor = load(tmp_path, trainer(text, "verl")).ajet.verl.actor_rollout_ref.actor
    assert actor.ulysses_sequence_parallel_size == 2
    assert actor.fsdp_config == {"param_offload": True}
    assert caplog.messages == []
    assert load(tmp_path, trainer(text, "local")).ajet.verl == {}
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    ("given", "mark", "clip"),
    [
        ("loss_extra_scale_ratio: 10.0", "", 0.1),
        ("loss_extra_scale_ratio: 10.0", "defaults: [ajet_default]\n", 2.0),
        ("loss_extra_scale_ratio: 4, optim: {grad_clip: 2}", "", 0.5),
        ("loss_extra_scale_ratio: 1.0", "", 1.0),
    ],
)
def test_a_factor_of_the_loss_divides_the_clipping(tmp_path, caplog, given, mark, clip):
    config = load(tmp_path, trainer(given) + mark)
    assert config.ajet.trainer_common.optim.grad_clip == clip
    notices = [message for message in caplog.messages if "is taken as" in message]
    assert len(notices) == (clip != 1.0)


def test_a_factor_of_the_loss_is_a_number_above_0(tmp_path):
    assert refusals(tmp_path, trainer("loss_extra_scale_ratio: 0")) == [
        "my_run.yaml:6: ajet.trainer_common.loss_extra_scale_ratio: got 0, expected a number "
        "above 0"
    ]


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


@pytest.mark.parametrize("mark", ["ajet_default", "[{x: y}, ajet_default]"])
def test_the_mark_may_be_written_in_several_ways(tmp_path, mark):
    text = rollout("n_vllm_engine: 2") + f"defaults: {mark}\n"
    assert load(tmp_path, text).ajet.rollout.num_repeat == 4
    assert other_defaults(parse_yaml(text, "a.yaml").data) == []


def test_other_values_of_defaults_are_no_mark(tmp_path):
    text = rollout("n_vllm_engine: 2") + "defaults: 3\n"
    assert load(tmp_path, text).ajet.rollout.num_repeat == 8
    assert len(other_defaults(parse_yaml(text, "a.yaml").data)) == 1


def test_the_mark_of_an_agentjet_file_gives_the_documented_defaults(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    mark = "hydra: {searchpath: [x]}\ndefaults: [verl_default, ajet_default, _self_]\n"
    ajet = load(tmp_path, rollout("temperature: 0.5") + mark).ajet
    assert (ajet.rollout.num_repeat, ajet.data.train_batch_size) == (4, 32)
    assert ajet.trainer_common.use_kl_loss
    assert ajet.rollout.temperature == 0.5
    assert len(caplog.messages) == 1
    assert load(tmp_path, rollout()).ajet.rollout.num_repeat == 8


def test_defaults_that_differ_are_shown_for_a_file_of_agentjet_only():
    assert other_defaults(parse_yaml(rollout(), "a.yaml").data) == []
    marked = rollout("n_vllm_engine: 2") + "defaults: [ajet_default]\n"
    assert other_defaults(parse_yaml(marked, "a.yaml").data) == []
    [finding] = other_defaults(parse_yaml(rollout("n_vllm_engine: 2"), "a.yaml").data)
    assert "ajet.rollout.num_repeat: 8 here, 4 in AgentJet" in finding.remedy.splitlines()


def test_a_file_of_agentjet_is_written_under_our_names(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text(rollout("n_vllm_engine: 2", "mode: async", "temperature: 0.5"))
    new = tmp_path / "new.yaml"
    new.write_text(as_our_yaml(path, ["data.train_batch_size=7"]))
    ajet = load_config(new).ajet
    assert (ajet.rollout.vllm.num_engines, ajet.rollout.temperature) == (2, 0.5)
    assert (ajet.rollout.num_repeat, ajet.data.train_batch_size) == (4, 7)
    assert "n_vllm_engine" not in new.read_text()
    assert load_config(path, from_agentjet=True).ajet.rollout.num_repeat == 4


def test_a_mistyped_name_of_agentjet_gets_its_own_suggestion(tmp_path):
    line = refusals(tmp_path, rollout("tensor_model_paralel_size: 2"))[0]
    assert 'did you mean "tensor_model_parallel_size"?' in line


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_tokens", "max_response_length_in_one_turn"),
        ("n", "num_repeat"),
        ("enforce_eager", "vllm.options.enforce_eager"),
    ],
)
def test_a_name_of_other_trainers_gets_ours_and_no_similar_one(tmp_path, name, meant):
    assert refusals(tmp_path, rollout(f"{name}: 3")) == [
        f"my_run.yaml:5: ajet.rollout.{name}: unknown key; use rollout.{meant}"
    ]


FILES = json.loads((ROOT / "tests/unit/agentjet_settings.json").read_text())
NAMED = [
    (name, backbone)
    for name, data in FILES.items()
    for backbone in (
        [data["ajet"]["backbone"]] if "backbone" in data["ajet"] else ["local", "verl", "trinity"]
    )
]


@pytest.mark.parametrize(("name", "backbone"), NAMED)
def test_agentjets_own_files_load(tmp_path, name, backbone):
    path = tmp_path / Path(name).name
    path.write_text(json.dumps(FILES[name]))
    config = load_config(path, [f"ajet.backbone={backbone}"])
    assert config.ajet.backbone == backbone
    given = FILES[name]["ajet"]
    assert config.ajet.rollout.temperature == given["rollout"]["temperature"]
    assert config.ajet.data.train_batch_size == given["data"]["train_batch_size"]
    assert config.ajet.rollout.compute_madness_checklist == given["rollout"].get(
        "compute_madness_checklist", ["nonsense"]
    )
    load_config(_resolved(config, tmp_path))


def _resolved(config: RootConfig, folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(to_yaml(config))
    return path


def test_a_run_needs_the_files_and_parts_that_are_named(tmp_path):
    path = tmp_path / "feedback.yaml"
    path.write_text(
        json.dumps(FILES["tutorial/example_feedback_tracing/example_feedback_tracing.yaml"])
    )
    with pytest.raises(ConfigError) as caught:
        require_available(load_config(path))
    model, reader = str(caught.value).splitlines()
    assert 'ajet.model.path: "/data/Qwen2___5-14B-Instruct" not found; looked for /data/' in model
    assert 'tracing.base_url: "./tutorial/example_feedback_tracing/database.sqlite" not' in reader


def test_a_file_of_a_reader_that_is_not_chosen_may_be_missing(tmp_path):
    reader = "{type: random_dummy, jsonl_dataset_file: {training: {file_path: none.jsonl}}}"
    text = rollout().replace("{type: random_dummy}", reader)
    require_available(load(tmp_path, text))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("swanlab", ["tensorboard"]),
        ("[console, swanlab]", ["console", "tensorboard"]),
        ("[swanlab, tensorboard]", ["tensorboard"]),
    ],
)
def test_a_metric_service_without_a_sink_is_replaced_by_tensorboard(
    tmp_path, caplog, monkeypatch, given, expected
):
    monkeypatch.delitem(METRIC_SINKS, "swanlab", raising=False)
    assert load(tmp_path, trainer(f"logger: {given}")).ajet.trainer_common.logger == expected
    assert caplog.messages[0].endswith("metrics go to TensorBoard instead of swanlab")


def test_the_page_is_not_stale(tmp_path):
    assert write_or_check(ROOT / "docs/from_agentjet.md", page(), check=True) == 0
    assert write_or_check(tmp_path / "missing.md", page(), check=True) == 1
