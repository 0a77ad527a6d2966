"""`AgentJetJob`: the YAML in Python."""

import pytest

from ajet import AgentJetJob, Workflow
from ajet.errors import ConfigError
from ajet.task_judge.base_judge import BaseJudge


class MyAgent(Workflow):
    pass


class MyJudge(BaseJudge):
    pass


def make_job() -> AgentJetJob:
    job = AgentJetJob(
        model="ajet:calculator",
        n_gpu=1,
        algorithm="rloo",
        num_repeat=4,
        batch_size=2,
        experiment_name="mine",
        judge=MyJudge,
        settings={"rollout.temperature": 0.9, "frozen_lake.is_slippery": True},
    )
    return job.set_workflow(MyAgent).set_data("random_dummy")


def test_arguments_become_the_settings_of_the_yaml():
    config = make_job().config
    assert config.ajet.experiment_name == "mine"
    assert config.ajet.trainer_common.algorithm.adv_estimator == "rloo"
    assert config.ajet.rollout.num_repeat == 4
    assert config.ajet.rollout.temperature == 0.9
    assert config.ajet.data.train_batch_size == 2
    assert config.ajet.rollout.user_workflow == f"{__name__}->MyAgent"
    assert config.ajet.task_judge.judge_protocol == f"{__name__}->MyJudge"
    assert config.frozen_lake.is_slippery is True


def test_data_files_are_named_with_the_kind_of_data(tmp_path):
    for name in ("train.jsonl", "held_out.jsonl"):
        (tmp_path / name).write_text("{}\n")
    job = make_job().set_data(
        type="jsonl_dataset_file",
        dataset_path=str(tmp_path / "train.jsonl"),
        validation_path=str(tmp_path / "held_out.jsonl"),
    )
    files = job.config.ajet.task_reader.jsonl_dataset_file
    assert files.training.file_path == str(tmp_path / "train.jsonl")
    assert files.validation.file_path == str(tmp_path / "held_out.jsonl")
    message = 'type "random_dummy" takes no path; only "jsonl_dataset_file" does'
    with pytest.raises(ConfigError, match=message):
        job.set_data("random_dummy", "train.jsonl")


def test_a_dumped_job_loads_to_the_same(tmp_path):
    job = make_job().dump_job_as_yaml(tmp_path / "job.yaml")
    assert AgentJetJob().load_job_from_yaml(tmp_path / "job.yaml").config == job.config


def test_mistakes_are_told_together():
    job = AgentJetJob(algorithm="grppo", settings={"rollout.temprature": 1})
    with pytest.raises(ConfigError) as error:
        _ = job.config
    assert str(error.value).splitlines() == [
        "AgentJetJob: ajet.model: missing; expected a section with path",
        "AgentJetJob: ajet.rollout.user_workflow: missing; expected "
        '"path/to/file.py->Class" or "package.module->Class"',
        'AgentJetJob: ajet.rollout.temprature: unknown key; did you mean "temperature"?',
        "AgentJetJob: ajet.task_reader: missing; expected a section",
        'AgentJetJob: ajet.trainer_common.algorithm.adv_estimator: got "grppo", expected one of '
        '"grpo", "dr_grpo", "rloo", "reinforce_plus_plus", "gae", or "path/to/file.py->Class" or '
        '"package.module->Class"; did you mean "grpo"?',
    ]


def test_tuning_runs_the_backbone_in_a_run_folder(tmp_path, monkeypatch):
    runs = []
    monkeypatch.setattr(
        "ajet.launcher.launch.load_backbone", lambda name: lambda *args: runs.append(args)
    )
    monkeypatch.setattr("ajet.job.log_to_console", lambda: None)
    monkeypatch.chdir(tmp_path)
    job = make_job()
    assert job.tune() == tmp_path / "saved_experiments" / "mine"
    assert job.tune(resume=True) == tmp_path / "saved_experiments" / "mine"
    assert [(folder.name, resume) for _, folder, resume, _ in runs] == [
        ("mine", False),
        ("mine", True),
    ]
