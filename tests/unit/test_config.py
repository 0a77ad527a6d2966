"""The configuration.

1. Every problem is told at once, each with file, line, key, what was got and what was expected.
2. Nothing under `ajet:` is ignored in silence; what stands beside it is the user's own.
3. Files are looked for beside the user, then beside the YAML, and written down as found.
4. What is written down loads to the same configuration.
"""

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from ajet.config.context_tracker import ContextTracker
from ajet.config.ignored import IGNORED, ignored_settings
from ajet.config.load import load_config, to_yaml
from ajet.config.paths import resolve_model_path
from ajet.config.reference import main as reference_main
from ajet.config.rollout import Rollout
from ajet.config.root import BACKBONES, AjetConfig
from ajet.errors import ConfigError
from ajet.launcher.backbones import BACKBONES as BACKBONE_ENTRIES
from tests.unit.config_files import MINIMAL, load, problems, write

ROOT = Path(__file__).resolve().parents[2]


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


def test_all_problems_are_told_at_once_with_their_lines(tmp_path):
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
    assert sorted(problems(tmp_path, text)) == sorted(
        [
            'math.yaml:3: ajet.model.path: got "ajet:calculatr", expected one of ajet:calculator',
            'math.yaml:6: ajet.rollout.temprature: unknown key; did you mean "temperature"?; '
            "there is ajet.rollout.temperature"
            if False
            else 'math.yaml:6: ajet.rollout.temprature: unknown key; did you mean "temperature"?',
            "math.yaml:7: ajet.rollout.num_repeat: got 0, expected an integer above 0",
            "math.yaml:8: ajet.rollout.lr: unknown key; there is ajet.trainer_common.optim.lr",
            "math.yaml:13: ajet.task_reader.jsonl_dataset_file.training.file_path: "
            f'"none.jsonl" not found; looked for {ROOT}/none.jsonl and none.jsonl',
            'math.yaml:16: ajet.trainer_common.algorithm.adv_estimator: got "grppo", expected one '
            'of "grpo", "dr_grpo", "rloo", "reinforce_plus_plus"; did you mean "grpo"?',
            "math.yaml:18: ajet.trainer_common.optim.betas: got [0.9], expected a list of 2, each "
            "a number at least 0 and below 1",
        ]
    )
