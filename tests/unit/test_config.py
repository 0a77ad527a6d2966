"""The configuration.

1. Every problem is told at once, each with file, line, key, what was got and what was expected.
2. Nothing under `ajet:` is ignored in silence; what stands beside it is the user's own.
3. Files are looked for beside the YAML, then beside the user, and written down as found; those
   of the command line beside the user first.
4. What is written down loads to the same configuration.
"""

import re
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from pydantic import ValidationError

from ajet.class_path import load_class
from ajet.config.backbones import BACKBONES, settings_without_effect
from ajet.config.loading.describe import subsection
from ajet.config.loading.hints import ignored_settings
from ajet.config.loading.load import load_config, to_yaml
from ajet.config.loading.paths import resolve_model_path
from ajet.config.loading.problems import all_keys
from ajet.config.reference import reference, write_or_check
from ajet.config.sections.algorithm import CREDIT, POLICY_LOSSES
from ajet.config.sections.root import AjetConfig
from ajet.config.sections.section import BaseConfig
from ajet.errors import ConfigError
from tests.unit.config_files import MINIMAL, load, problems, write

ROOT = Path(__file__).resolve().parents[2]


def sections(section: type[BaseConfig]) -> list[type[BaseConfig]]:
    below = [subsection(field) for field in section.model_fields.values()]
    return [section, *(deeper for kind in below if kind for deeper in sections(kind))]


def test_a_minimal_file_gets_every_default(tmp_path):
    config = load(tmp_path)
    assert config.ajet.experiment_name == "math"
    assert config.ajet.backbone == "local"
    assert config.ajet.rollout.multi_turn.max_steps == 30
    assert config.ajet.trainer_common.optim.betas == (0.9, 0.95)


def test_documented_names_are_accepted(tmp_path):
    text = MINIMAL.replace(
        "    user_workflow:",
        """\
    num_repeat: 4
    max_env_worker: 10
    temperature: 0.9
    max_response_length_in_one_turn: 128
    max_model_len: 4096
    multi_turn: {max_steps: 3, max_sample_per_task: 30}
    user_workflow:""",
    )
    text += """\
    env_service: {env_url: "http://127.0.0.1:8080"}
    huggingface_dat_repo: {dataset_path: gsm8k}
  project_name: p
  experiment_name: e
  experiment_dir: d
  backbone: local
  data: {train_batch_size: 2, max_prompt_length: 100, max_response_length: 200}
  task_judge: {judge_type: customized_protocol, judge_protocol: my.judge->Judge}
  context_tracker: {timeline_merging_policy: {timeline_compare_level: text, ignore_tools: true}}
  trainer_common:
    total_epochs: 2
    save_freq: -1
    test_freq: 5
    val_before_train: false
    algorithm: {adv_estimator: grpo}
    optim: {lr: 1e-6}
    use_kl_loss: true
    kl_loss_coef: 0.002
    logger: tensorboard
    n_gpus_per_node: 8
    nnodes: 1
  debug:
  task_runner:
  trinity: {buffer: {size: 1}}
verl: {actor: {strategy: fsdp}}
"""
    ajet = load(tmp_path, text).ajet
    assert ajet.trainer_common.save_freq is None
    assert ajet.trainer_common.optim.lr == 1e-6
    assert ajet.trainer_common.logger == ["tensorboard"]
    assert ajet.trinity.buffer.size == 1
    assert ajet.verl.actor.strategy == "fsdp"


def test_all_problems_are_reported_at_once_with_their_lines(tmp_path):
    text = """\
ajet:
  model:
    path: ajet:calculatr
  rollout:
    user_workflow: agent.py->Agent
    temprature: 1
    num_repeat: 0
    lr: 1e-6
  task_reader:
    type: jsonl_dataset_file
    jsonl_dataset_file:
      training:
        file_path: none.jsonl
  trainer_common:
    algorithm:
      adv_estimator: grppo
    optim:
      betas: [0.9]
"""
    expected = [
        'math.yaml:3: ajet.model.path: got "ajet:calculatr", expected one of ajet:calculator',
        'math.yaml:6: ajet.rollout.temprature: unknown key; did you mean "temperature"?',
        "math.yaml:7: ajet.rollout.num_repeat: got 0, expected an integer above 0",
        "math.yaml:8: ajet.rollout.lr: unknown key; there is ajet.trainer_common.critic.lr and "
        "ajet.trainer_common.optim.lr",
        "math.yaml:13: ajet.task_reader.jsonl_dataset_file.training.file_path: "
        f'"none.jsonl" not found; looked for none.jsonl and {Path.cwd()}/none.jsonl',
        'math.yaml:16: ajet.trainer_common.algorithm.adv_estimator: got "grppo", expected one '
        'of "grpo", "dr_grpo", "rloo", "reinforce_plus_plus", "gae", '
        'or "path/to/file.py->Class" or "package.module->Class"; did you mean "grpo"?',
        "math.yaml:18: ajet.trainer_common.optim.betas: got [0.9], expected a list of 2, each "
        "a number at least 0 and below 1",
    ]
    assert sorted(problems(tmp_path, text)) == sorted(expected)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("num_repeat: '8'", 'got "8", expected an integer above 0'),
        ("num_repeat: true", "got true, expected an integer above 0"),
        ("num_repeat: 8.5", "got 8.5, expected an integer above 0"),
        ("temperature: .nan", "got NaN, expected a number at least 0"),
        ("temperature:", "got null, expected a number at least 0"),
        ("top_p: 0", "got 0, expected a number above 0 and at most 1"),
        ("dynamic_sampling: 1", "got 1, expected true or false"),
        ("multi_turn: 3", "got 3, expected a section"),
        ("max_model_len: [1]", "got [1], expected an integer above 0, or null"),
    ],
)
def test_bad_values_are_reported_with_the_expected_ones(tmp_path, line, problem):
    text = MINIMAL.replace("    user_workflow", f"    {line}\n    user_workflow")
    key = line.partition(":")[0]
    assert problems(tmp_path, text) == [f"math.yaml:5: ajet.rollout.{key}: {problem}"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "math.yaml: got an empty file, expected a mapping that starts with `ajet:`"),
        ("- ajet", "math.yaml: got a list, expected a mapping that starts with `ajet:`"),
        ("ajett: {}", 'math.yaml: expected a section `ajet:`; did you mean "ajett"?'),
        ("ajet: 3", "math.yaml:1: expected a section `ajet:`"),
        ("ajet:\n\tmodel: 1", "math.yaml:2: not valid YAML: found character '\\t' that cannot"),
        ("ajet: [1,\nb: 2", "math.yaml:2: not valid YAML: expected ',' or ']'"),
        ("ajet: 2024-13-45", "math.yaml: not valid YAML: month must be in 1..12"),
        ("a: 1\nb:\n  c: 1\n  c: 2", "math.yaml:4: b.c: given twice; first on line 3"),
        ("a: &x [*x]", "math.yaml:1: a[0]: an alias that contains itself"),
    ],
)
def test_files_that_are_no_configuration_are_refused(tmp_path, text, problem):
    assert problems(tmp_path, text)[0].startswith(problem)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name, reason in [("none.yaml", "No such file"), ("binary.yaml", "not UTF-8 text")]:
        with pytest.raises(ConfigError, match=f"{name}: cannot be read: {reason}"):
            load_config(tmp_path / name)


@pytest.mark.parametrize("name", ["demo.yml", "demo", "dmeo.yaml"])
def test_a_file_with_a_similar_name_is_named(tmp_path, name):
    (tmp_path / "demo.yaml").write_text("ajet: {}")
    with pytest.raises(ConfigError, match=r'No such file or directory; did you mean "demo.yaml"\?'):
        load_config(tmp_path / name)
    with pytest.raises(ConfigError, match="No such file or directory$"):
        load_config(tmp_path / "nowhere" / name)


def test_missing_sections_are_reported_with_their_required_keys(tmp_path):
    assert problems(tmp_path, "ajet: {}\n") == [
        "math.yaml:1: ajet.model: missing; expected a section with path",
        "math.yaml:1: ajet.rollout: missing; expected a section with user_workflow",
        "math.yaml:1: ajet.task_reader: missing; expected a section",
    ]


def test_a_reader_names_the_settings_that_it_needs(tmp_path):
    [problem] = problems(tmp_path, MINIMAL, "task_reader.type=tracing")
    assert problem.endswith('type "tracing" needs tracing.sources')
    [problem] = problems(tmp_path, MINIMAL, "task_reader.type=data_generation")
    assert "needs data_generation.model_client.model" in problem
    overrides = ("task_reader.type=data_generation", "task_reader.data_generation.llm_model=m")
    [problem] = problems(tmp_path, MINIMAL, *overrides)
    assert "needs data_generation.document_reader.document_path, or examples in" in problem


def test_sections_next_to_ajet_are_the_users(tmp_path):
    text = MINIMAL + "frozen_lake: {is_slippery: true, maps: [{size: 4}]}\nmy_number: 3\n"
    config = load(tmp_path, text)
    assert config.frozen_lake.is_slippery is True
    assert config.frozen_lake.maps[0].size == 4
    assert config.my_number == 3
    with pytest.raises(AttributeError, match='did you mean "is_slippery"'):
        config.frozen_lake.is_slipery  # noqa: B018


def test_settings_can_be_read_like_keys_of_a_mapping(tmp_path):
    config = load(tmp_path, MINIMAL + "frozen_lake: {size: 4}\n")
    assert config["frozen_lake"]["size"] == config.get("frozen_lake").get("size") == 4
    assert config["ajet"]["rollout"].get("num_repeat") == 8
    assert (config.get("nothing", 3), config.ajet.rollout.get("nothing")) == (3, None)
    assert ("frozen_lake" in config, "lake" in config) == (True, False)
    with pytest.raises(KeyError, match='there is no key "temprature"; did you mean "temperature"'):
        config.ajet.rollout["temprature"]


@pytest.mark.parametrize("name", ["3", "null", "copy", "model_dump"])
def test_a_section_that_could_not_be_read_as_an_attribute_is_refused(tmp_path, name):
    [problem] = problems(tmp_path, MINIMAL + f"{name}: {{a: 1}}\n")
    assert problem.endswith("a section of yours needs another name")


def test_a_section_of_ajet_at_the_top_level_is_an_indentation_mistake(tmp_path):
    assert problems(tmp_path, MINIMAL + "data: {train_batch_size: 2}\n") == [
        "math.yaml:8: data: indent it under `ajet:` or `verl:`, where it belongs"
    ]


def test_verl_and_trinity_may_be_inside_ajet_or_top_level_but_not_both(tmp_path):
    assert load(tmp_path, MINIMAL + "verl: {a: 1}\n").ajet.verl == {"a": 1}
    assert load(tmp_path, MINIMAL + "  verl: {a: 1}\n").ajet.verl == {"a": 1}
    assert problems(tmp_path, MINIMAL + "  verl: {a: 1}\nverl: {a: 2}\n") == [
        "math.yaml:9: verl: also given as ajet.verl"
    ]


def test_hydra_sections_are_ignored_with_one_notice(tmp_path, caplog):
    load(tmp_path, MINIMAL + "hydra: {searchpath: [x]}\ndefaults: [a, b]\n")
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "`hydra:` and `defaults:` ignored; Hydra is not used here"
    ]


def test_files_are_looked_for_beside_the_yaml_then_beside_the_user(tmp_path, monkeypatch):
    beside_user, beside_yaml = tmp_path / "user", tmp_path / "yaml"
    for folder in (beside_user, beside_yaml):
        folder.mkdir()
    path = write(beside_yaml)
    write(beside_user)
    monkeypatch.chdir(beside_user)

    def found(setting, *overrides):
        ajet = load_config(path, overrides).ajet
        return {
            "workflow": ajet.rollout.user_workflow,
            "reader": ajet.task_reader.type,
            "judge": ajet.task_judge.judge_protocol,
            "data": ajet.task_reader.jsonl_dataset_file.training.file_path,
            "model": ajet.model.path,
        }[setting]

    assert found("workflow") == f"{beside_yaml}/agent.py->Agent"
    (beside_yaml / "agent.py").unlink()
    assert found("workflow") == f"{beside_user}/agent.py->Agent"
    write(beside_yaml)
    for folder in (beside_user, beside_yaml):
        (folder / "data.jsonl").write_text("{}\n")
        (folder / "model").mkdir()
    typed = {
        "workflow": "rollout.user_workflow=agent.py:Agent",
        "reader": "task_reader.type=agent.py->Agent",
        "judge": "task_judge.judge_protocol=agent.py->Agent",
        "data": "task_reader.jsonl_dataset_file.training.file_path=data.jsonl",
        "model": "model.path=model",
    }
    for setting, override in typed.items():
        assert found(setting, override).startswith(f"{beside_user}/"), setting
        name = override.partition("=")[2].partition(":")[0].partition("->")[0]
        (beside_user / name).rename(beside_user / "away")
        assert found(setting, override).startswith(f"{beside_yaml}/"), setting
        (beside_user / "away").rename(beside_user / name)
    texts = {
        "data": f"{MINIMAL}    jsonl_dataset_file: {{training: {{file_path: data.jsonl}}}}\n",
        "model": MINIMAL.replace("ajet:calculator", "model"),
    }
    for setting, text in texts.items():
        path.write_text(text)
        assert found(setting).startswith(f"{beside_yaml}/"), setting


def test_a_model_is_a_folder_a_hub_name_or_a_shipped_one(tmp_path):
    (tmp_path / "qwen").mkdir()
    shipped = load(tmp_path).ajet.model.path
    assert Path(shipped).is_dir()
    assert shipped == resolve_model_path("ajet:calculator")
    by_name = {
        name: load(tmp_path, MINIMAL, f"model.path={name}").ajet.model.path
        for name in ("qwen", "Qwen/Qwen2.5-7B-Instruct")
    }
    assert by_name["qwen"] == str(tmp_path / "qwen")
    assert by_name["Qwen/Qwen2.5-7B-Instruct"] == "Qwen/Qwen2.5-7B-Instruct"
    assert "not found" in problems(tmp_path, MINIMAL, "model.path=./no/such/model")[0]


def test_a_task_reader_may_be_a_class_of_the_users(tmp_path):
    config = load(tmp_path, MINIMAL, "task_reader.type=agent.py->Reader")
    assert config.ajet.task_reader.type == f"{tmp_path}/agent.py->Reader"
    assert "not found" in problems(tmp_path, MINIMAL, "task_reader.type=no.py->Reader")[0]


def test_a_jsonl_reader_needs_its_training_file(tmp_path):
    [problem] = problems(tmp_path, MINIMAL, "task_reader.type=jsonl_dataset_file")
    assert problem.endswith('type "jsonl_dataset_file" needs jsonl_dataset_file.training.file_path')


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", ""])
def test_an_experiment_name_is_a_folder_name(tmp_path, name):
    [problem] = problems(tmp_path, MINIMAL, f"experiment_name={name!r}")
    assert f'got "{name}", expected a folder\'s name' in problem


def test_the_written_configuration_loads_to_the_same(tmp_path):
    text = MINIMAL + "frozen_lake: {is_slippery: true, size: [4, 4]}\nverl: {a: {b: 1e-6}}\n"
    config = load(tmp_path, text, "trainer_common.optim.lr=3e-4")
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "config.yaml") == config


def test_yaml_merges_and_numbers_are_understood(tmp_path):
    text = """shared: &shared {temperature: 9e-1, num_repeat: 3}
ajet:
  model: {path: ajet:calculator}
  task_reader: {type: random_dummy}
  rollout:
    <<: *shared
    num_repeat: 4
    user_workflow: agent.py->Agent
"""
    rollout = load(tmp_path, text).ajet.rollout
    assert (rollout.temperature, rollout.num_repeat) == (0.9, 4)


def test_nothing_changes_after_loading(tmp_path):
    with pytest.raises(ValidationError, match="frozen"):
        load(tmp_path).ajet.rollout.num_repeat = 3


@pytest.mark.parametrize(
    ("is_installed", "overrides", "backbone"),
    [
        (False, [], "local"),
        (True, [], "trinity"),
        (True, ["backbone=local"], "local"),
        (False, ["backbone=trinity"], "trinity"),
    ],
)
def test_the_default_backbone_is_trinity_if_it_is_installed(
    tmp_path, monkeypatch, is_installed, overrides, backbone
):
    def distribution(name: str) -> None:
        if not is_installed:
            raise PackageNotFoundError(name)

    monkeypatch.setattr("ajet.config.backbones.metadata.distribution", distribution)
    assert load(tmp_path, MINIMAL, *overrides).ajet.backbone == backbone


def test_settings_without_effect_are_named(tmp_path):
    assert ignored_settings(load(tmp_path), "local") == []
    config = load(tmp_path, MINIMAL, "trainer_common.nnodes=2", "verl.a=1", "debug.num_tasks=2")
    assert ignored_settings(config, "local") == ["ajet.trainer_common.nnodes", "ajet.verl"]


def test_every_name_in_the_table_of_ignored_settings_is_a_setting():
    keys = set(all_keys(AjetConfig, "ajet"))
    assert {f"ajet.{path}" for name in BACKBONES for path in settings_without_effect(name)} <= keys


def test_an_unknown_backbone_is_refused_with_the_known_names(tmp_path):
    [problem] = problems(tmp_path, MINIMAL, "backbone=trinty")
    assert problem.endswith(
        'ajet.backbone: got "trinty", expected one of "local", "debug", "verl", "trinity", or '
        '"path/to/file.py->function" or "package.module->function"; did you mean "trinity"?'
    )


def test_a_backbone_may_be_a_function_of_the_users_own(tmp_path):
    assert load(tmp_path, MINIMAL, "backbone=my_pkg.mod->run").ajet.backbone == "my_pkg.mod->run"
    config = load(tmp_path, MINIMAL, "backbone=agent.py->run")
    assert config.ajet.backbone == f"{tmp_path}/agent.py->run"
    assert ignored_settings(config, config.ajet.backbone) == []
    [problem] = problems(tmp_path, MINIMAL, "backbone=no_file.py->run")
    assert "no_file.py" in problem
    assert "not found" in problem


def test_every_name_of_credit_and_of_policy_losses_has_its_function():
    for path in [*CREDIT.values(), *POLICY_LOSSES.values()]:
        module, _, name = path.partition("->")
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
        assert re.search(rf"^(def {name}\(|{name} = )", source, re.MULTILINE), path


def test_every_setting_is_documented():
    undocumented = [
        f"{section.__name__}.{name}"
        for section in sections(AjetConfig)
        for name, field in section.model_fields.items()
        if not field.description and not subsection(field)
    ]
    assert undocumented == []


def test_the_reference_page_is_not_stale(tmp_path):
    assert write_or_check(ROOT / "docs/configuration.md", reference(), check=True) == 0
    (tmp_path / "stale.md").write_text("# Configuration\n")
    assert write_or_check(tmp_path / "stale.md", reference(), check=True) == 1


@pytest.mark.parametrize("path", sorted(ROOT.glob("tutorial/**/*.yaml")), ids=lambda p: p.name)
def test_every_shipped_yaml_loads(path, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    data = tmp_path / "data.jsonl"
    data.write_text("{}\n")
    not_shipped = [
        f"task_reader.jsonl_dataset_file.{split}.file_path={data}"
        for split in ("training", "validation")
        if "gsm8k" in path.read_text()
    ]
    config = load_config(path, not_shipped)
    assert ignored_settings(config, config.ajet.backbone) == []


def test_a_module_beside_the_yaml_can_be_imported_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    package = tmp_path / "package_of_this_test"
    package.mkdir()
    (package / "prompts.py").write_text("TEXT = 'hello'\n")
    (package / "agent.py").write_text(
        "from package_of_this_test.prompts import TEXT\nclass Agent:\n    text = TEXT\n"
    )
    path = "package_of_this_test.agent->Agent"
    config = load(tmp_path, MINIMAL.replace("agent.py->Agent", path))
    assert load_class(config.ajet.rollout.user_workflow, None, "key").text == "hello"


def test_a_colon_serves_where_the_shell_would_take_the_arrow(tmp_path):
    config = load(tmp_path, MINIMAL, "rollout.user_workflow=agent.py:Agent")
    assert config.ajet.rollout.user_workflow == f"{tmp_path}/agent.py->Agent"
    config = load(tmp_path, MINIMAL, "rollout.user_workflow=package.module:Agent")
    assert config.ajet.rollout.user_workflow == "package.module->Agent"


def test_environment_variables_are_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS_OF_THIS_TEST", "/runs")
    monkeypatch.delenv("UNSET_IN_THIS_TEST", raising=False)
    own = "trinity: {a: '${mode}'}\nprompts: {greeting: 'hi ${name}'}\n"
    config = load(tmp_path, MINIMAL + own, "experiment_dir=${RUNS_OF_THIS_TEST}/a")
    assert config.ajet.experiment_dir == "/runs/a"
    assert (config.ajet.trinity.a, config.prompts.greeting) == ("${mode}", "hi ${name}")
    [line] = problems(tmp_path, MINIMAL, "experiment_dir=${UNSET_IN_THIS_TEST}/a")
    assert line == (
        "command line: ajet.experiment_dir: ${UNSET_IN_THIS_TEST} is replaced by the environment "
        "variable UNSET_IN_THIS_TEST, which is not set"
    )


def test_a_folder_in_place_of_a_file_is_named_as_that(tmp_path):
    (tmp_path / "tasks").mkdir()
    text = MINIMAL.replace(
        "type: random_dummy", "jsonl_dataset_file: {training: {file_path: tasks}}"
    )
    [line] = load(tmp_path, text).unavailable
    assert line.endswith('file_path: "tasks" is a folder, expected a file')


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("$RUNS_OF_THIS_TEST/a", "/runs/a"),
        ("${oc.env:RUNS_OF_THIS_TEST}/a", "/runs/a"),
        ("${oc.env:UNSET_IN_THIS_TEST,/b}/a", "/b/a"),
        ("${oc.env:UNSET_IN_THIS_TEST,}a", "a"),
        ("/x/$RUNS_OF_THIS_TEST/a", "/x/$RUNS_OF_THIS_TEST/a"),
    ],
)
def test_other_ways_to_write_a_variable(tmp_path, monkeypatch, given, expected):
    monkeypatch.setenv("RUNS_OF_THIS_TEST", "/runs")
    monkeypatch.delenv("UNSET_IN_THIS_TEST", raising=False)
    config = load(tmp_path, MINIMAL + f"  experiment_dir: '{given}'\n")
    assert config.ajet.experiment_dir == expected


def test_other_replacements_of_hydra_are_refused(tmp_path):
    [line] = problems(tmp_path, MINIMAL + "  project_name: '${ajet.model.path}'\n")
    assert line.endswith(
        "ajet.project_name: ${ajet.model.path} cannot be replaced: only environment variables are, "
        "as in ${HOME}; write the value itself"
    )


@pytest.mark.parametrize(
    ("line", "place"),
    [("rollout.top_k: 3", "rollout.top_k"), ("  rollout.top_k: 3", "ajet.rollout.top_k")],
)
def test_a_name_with_dots_is_no_path(tmp_path, line, place):
    [found] = problems(tmp_path, MINIMAL + line + "\n")
    assert found.endswith(
        f"{place}: a name with dots is no path in a file; write `top_k:` below `ajet:`, `rollout:`"
    )


def test_a_section_beside_ajet_keeps_its_line(tmp_path):
    [line] = problems(tmp_path, MINIMAL + "trinity: 3\n")
    number = MINIMAL.count("\n") + 1
    assert f":{number}: ajet.trinity: got 3, expected a mapping" in line


def test_a_free_port_is_the_same_wherever_its_name_stands(tmp_path):
    service = "  task_runner: {services: [{name: a, command: 'run %s', ready_port: '%s'}]}\n"
    port = "${free_port:a}"
    own = "judge: {url: 'http://localhost:${free_port:a}', other: '${free_port:b}'}\n"
    config = load(tmp_path, MINIMAL + service % (port, port) + own)
    [service] = config.ajet.task_runner.services
    assert service.command == ["run", str(service.ready_port)]
    assert config.judge.url == f"http://localhost:{service.ready_port}"
    assert config.judge.other not in (service.ready_port, 0)
    assert "{free_port" not in to_yaml(config)


@pytest.mark.parametrize(("text", "seed"), [("010", 10), ("0", 0), ("1_000", 1000)])
def test_an_integer_with_a_leading_zero_is_decimal(tmp_path, text, seed):
    config = load(tmp_path, MINIMAL + f"  trainer_common: {{seed: {text}}}\n")
    assert config.ajet.trainer_common.seed == seed


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            MINIMAL.replace(
                "type: random_dummy", "jsonl_dataset_file: {training: {file_path: ''}}"
            ),
            'file_path: "" not found; looked for',
        ),
        (MINIMAL.replace("ajet:calculator", "x" * 5000), "names no file: File name too long"),
        (
            MINIMAL.replace("ajet:calculator", "~nobody-here/m"),
            "names no file: Could not determine",
        ),
        ("{" * 5000, "math.yaml:1: not valid YAML: more than 100 levels"),
        ("ajet: " + "[" * 99 + "]" * 99, "expected a section `ajet:`"),
    ],
)
def test_values_that_no_file_can_have_are_problems(tmp_path, text, problem):
    assert problem in "\n".join(problems(tmp_path, text))
