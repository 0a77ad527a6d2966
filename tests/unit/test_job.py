"""`AgentJetJob`: the YAML in Python."""

import pytest

from ajet import AgentJetJob, Workflow
from ajet.errors import ConfigError
from ajet.task_judge.base_judge import BaseJudge


class MyAgent(Workflow):
    async def execute(self, workflow_task, tuner): ...


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
    message = (
        'type "random_dummy" takes no path; only "jsonl_dataset_file" and "huggingface_dat_repo" do'
    )
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


def test_positional_arguments_are_those_of_agentjet():
    job = AgentJetJob("verl", "hub/name", 4, "grpo", 2).set_workflow(MyAgent)
    ajet = job.set_data("random_dummy").config.ajet
    assert (ajet.backbone, ajet.model.path) == ("verl", "hub/name")
    assert (ajet.trainer_common.n_gpus_per_node, ajet.rollout.vllm.num_engines) == (4, 2)


def test_a_job_as_it_is_written_for_agentjet(tmp_path, monkeypatch):
    from ajet.copilot.job import AgentJetJob as Job

    make_job().dump_job_as_yaml(tmp_path / "base.yaml")
    job = Job(
        base_yaml_config=tmp_path / "base.yaml",
        project_name="mine",
        logging="tensorboard",
        max_env_worker=3,
        max_prompt_length=100,
        max_response_length=200,
        max_response_length_in_one_turn=50,
        max_model_len=300,
        mini_batch_num=2,
        lora_rank=0,
        gpu_memory_utilization=0.5,
        swarm_mode=False,
        lr=1e-5,
    )
    ajet = job.config.ajet
    assert (ajet.project_name, ajet.trainer_common.logger) == ("mine", ["tensorboard"])
    assert (ajet.data.max_prompt_length, ajet.data.max_response_length) == (100, 200)
    assert ajet.rollout.max_response_length_in_one_turn == 50
    assert (ajet.rollout.max_env_worker, ajet.rollout.max_model_len) == (3, 300)
    assert ajet.rollout.vllm.options.gpu_memory_utilization == 0.5
    assert ajet.trainer_common.optim.num_updates_per_step == 2
    assert ajet.trainer_common.optim.lr == 1e-5
    assert ajet.rollout.num_repeat == 4
    assert AgentJetJob().build_job_from_yaml(tmp_path / "base.yaml").config.ajet.project_name
    with pytest.raises(TypeError, match='no argument "num_repeats"; did you mean "num_repeat"'):
        Job(num_repeats=1)


def test_data_of_the_hub_is_named_with_its_splits():
    job = make_job().set_data(
        type="hf", dataset_path="openai/gsm8k", training_split="train", validation_split="test"
    )
    reader = job.config.ajet.task_reader
    assert reader.type == "huggingface_dat_repo"
    assert reader.huggingface_dat_repo.dataset_path == "openai/gsm8k"
    assert reader.huggingface_dat_repo.training_split == "train"
    with pytest.raises(ConfigError, match="takes no validation_path; only"):
        job.set_data("hf", "openai/gsm8k", "held_out.jsonl")
