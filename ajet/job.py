"""Describes and starts a run in Python instead of YAML and the command line."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

import yaml

from ajet.class_path import class_path_of
from ajet.config.loading.load import read_settings, resolve
from ajet.config.loading.overrides import key_path, set_key
from ajet.config.loading.yaml_file import Settings
from ajet.config.sections.root import RootConfig
from ajet.errors import ConfigError, did_you_mean
from ajet.monitor.output import log_to_console

SOURCE = "AgentJetJob"

SHORT_TYPES = {"hf": "huggingface_dat_repo"}
DATA_KEYS: dict[str, dict[str, str]] = {
    "jsonl_dataset_file": {
        "dataset_path": "training.file_path",
        "validation_path": "validation.file_path",
    },
    "huggingface_dat_repo": {
        "dataset_path": "dataset_path",
        "training_split": "training_split",
        "validation_split": "validation_split",
    },
    "env_service": {"training_split": "training_split", "validation_split": "validation_split"},
}
"""`task_reader.type` -> argument of `set_data` -> key in the section of that type."""


ARGUMENTS = {
    "backbone": "backbone",
    "model": "model.path",
    "n_gpu": "trainer_common.n_gpus_per_node",
    "algorithm": "trainer_common.algorithm.adv_estimator",
    "n_gpu_for_infer": "rollout.vllm.num_engines",
    "num_repeat": "rollout.num_repeat",
    "batch_size": "data.train_batch_size",
    "experiment_name": "experiment_name",
    "judge": "task_judge.judge_protocol",
    "project_name": "project_name",
    "experiment_dir": "experiment_dir",
    "logging": "trainer_common.logger",
    "max_env_worker": "rollout.max_env_worker",
    "max_prompt_length": "data.max_prompt_length",
    "max_response_length": "data.max_response_length",
    "max_response_length_in_one_turn": "rollout.max_response_length_in_one_turn",
    "max_model_len": "rollout.max_model_len",
    "mini_batch_num": "trainer_common.optim.num_updates_per_step",
    "lora_rank": "lora.lora_rank",
    "lora_alpha": "lora.lora_alpha",
    "lora_target_modules": "lora.target_modules",
    "lora_load_format": "lora.load_format",
    "gpu_memory_utilization": "rollout.gpu_memory_utilization",
    "lr": "trainer_common.optim.lr",
    "swarm_mode": "enable_swarm_mode",
    "swarm_mode_sample_collection_method": "swarm_mode_sample_collection_method",
}
"""Argument of `AgentJetJob` -> the key of the YAML that it sets."""


class JobArguments(TypedDict, total=False):
    """Keyword arguments of `AgentJetJob`; `ARGUMENTS` says which setting each is."""

    num_repeat: int | None
    batch_size: int | None
    experiment_name: str | None
    judge: type | str | None
    project_name: str | None
    experiment_dir: str | None
    logging: str | list[str] | None
    max_env_worker: int | None
    max_prompt_length: int | None
    max_response_length: int | None
    max_response_length_in_one_turn: int | None
    max_model_len: int | None
    mini_batch_num: int | None
    lora_rank: int | None
    lora_alpha: int | None
    lora_target_modules: str | list[str] | None
    lora_load_format: str | None
    gpu_memory_utilization: float | None
    lr: float | None
    swarm_mode: bool | None
    swarm_mode_sample_collection_method: str | None


class AgentJetJob:
    """A run that is described in Python instead of a YAML file.

        job = AgentJetJob(model="Qwen/Qwen2.5-7B-Instruct", num_repeat=4)
        job.set_workflow(MyAgent)
        job.set_data(type="jsonl_dataset_file", dataset_path="train.jsonl")
        job.tune()

    An argument that is None keeps the default of its setting. Values are checked only when
    `config` is read or `tune` is called.

    Args:
        backbone: sets `backbone`, what trains.
        model: sets `model.path`.
        n_gpu: sets `trainer_common.n_gpus_per_node`.
        algorithm: sets `trainer_common.algorithm.adv_estimator`.
        n_gpu_for_infer: sets `rollout.vllm.num_engines`.
        base_yaml_config: a YAML file whose settings these replace.
        settings: any other keys of the YAML by their paths: `{"rollout.temperature": 0.9}`.
        **arguments: see `JobArguments` and `ARGUMENTS`; `judge` is a class or its class path.

    Raises:
        TypeError: there is no such argument.
        ConfigError: `base_yaml_config` cannot be read or is not YAML.
    """

    def __init__(
        self,
        backbone: str | None = None,
        model: str | None = None,
        n_gpu: int | None = None,
        algorithm: str | None = None,
        n_gpu_for_infer: int | None = None,
        *,
        base_yaml_config: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        **arguments: Unpack[JobArguments],
    ) -> None:
        self._settings = Settings(data={"ajet": {}}, source=SOURCE)
        self._yaml_path = Path("agentjet_job.yaml")
        if base_yaml_config is not None:
            self.load_job_from_yaml(base_yaml_config)
        named: dict[str, Any] = {
            "backbone": backbone,
            "model": model,
            "n_gpu": n_gpu,
            "algorithm": algorithm,
            "n_gpu_for_infer": n_gpu_for_infer,
            **arguments,
        }
        for name, value in named.items():
            if name not in ARGUMENTS:
                raise TypeError(
                    f'{SOURCE} has no argument "{name}"{did_you_mean(name, ARGUMENTS)}; settings='
                    '{"key.path": value} takes any key of the YAML'
                )
            if value is not None:
                self._set(
                    ARGUMENTS[name], class_path_of(value) if isinstance(value, type) else value
                )
        for key, value in (settings or {}).items():
            self._set(key, value)

    def set_workflow(self, workflow: type | str) -> Self:
        """Set the workflow: a class at the top level of a file, or its class path."""
        path = workflow if isinstance(workflow, str) else class_path_of(workflow)
        return self._set("rollout.user_workflow", path)

    def set_data(
        self,
        type: str,
        dataset_path: str | Path | None = None,
        validation_path: str | Path | None = None,
        *,
        training_split: str | None = None,
        validation_split: str | None = None,
    ) -> Self:
        """Set where the tasks come from.

        Args:
            type: sets `task_reader.type`; `hf` is `huggingface_dat_repo`.
            dataset_path: for `jsonl_dataset_file` the file with the training tasks, for
                `huggingface_dat_repo` the data set.
            validation_path: file with the validation tasks; only for `jsonl_dataset_file`.
            training_split: split that is trained on; for readers that have splits.
            validation_split: split that is evaluated on; likewise.

        Raises:
            ConfigError: this type takes no such argument.
        """
        type = SHORT_TYPES.get(type, type)
        self._set("task_reader.type", type)
        given = {
            "dataset_path": dataset_path,
            "validation_path": validation_path,
            "training_split": training_split,
            "validation_split": validation_split,
        }
        for name, value in given.items():
            if value is None:
                continue
            key = DATA_KEYS.get(type, {}).get(name)
            if key is None:
                able = " and ".join(f'"{kind}"' for kind, keys in DATA_KEYS.items() if name in keys)
                what = "path" if name == "dataset_path" else name
                does = "does" if able.count('"') == 2 else "do"
                raise ConfigError(
                    f'{SOURCE}.set_data: type "{type}" takes no {what}; only {able} {does}'
                )
            self._set(f"task_reader.{type}.{key}", str(value))
        return self

    def dump_job_as_yaml(self, path: str | Path) -> Self:
        """Write the settings as a YAML file for `ajet --conf` or `load_job_from_yaml`."""
        text = yaml.safe_dump(self._settings.data, sort_keys=False, allow_unicode=True)
        Path(path).write_text(text, encoding="utf-8")
        return self

    def load_job_from_yaml(self, path: str | Path) -> Self:
        """Replace all settings by those of a YAML file.

        Raises:
            ConfigError: the file cannot be read or is not YAML.
        """
        self._settings = read_settings(path)
        self._yaml_path = Path(path)
        return self

    def build_job_from_yaml(self, path: str | Path) -> Self:
        """The same as `load_job_from_yaml`, under AgentJet's name.

        Raises:
            ConfigError: the file cannot be read or is not YAML.
        """
        return self.load_job_from_yaml(path)

    @property
    def config(self) -> RootConfig:
        """The resolved configuration.

        Raises:
            ConfigError: a setting is wrong; the message has one line per problem.
        """
        return resolve(copy.deepcopy(self._settings), self._yaml_path)

    def tune(self, *, resume: bool = False) -> Path:
        """Run to the end and return the run folder.

        Args:
            resume: continue the latest run of this name.

        Raises:
            AjetError: the configuration is wrong, or the run cannot continue.
        """
        from ajet.launcher.launch import launch

        log_to_console()
        return launch(self.config, command=sys.argv, resume=resume)

    def _set(self, key: str, value: Any) -> Self:
        set_key(self._settings, key_path(key), value, SOURCE)
        return self
