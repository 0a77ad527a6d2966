"""Describes and starts a run in Python instead of YAML and the command line."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from ajet.class_path import class_path_of
from ajet.config.loading.load import read_settings, resolve
from ajet.config.loading.overrides import key_path, set_key
from ajet.config.loading.yaml_file import Settings
from ajet.config.sections.root import RootConfig
from ajet.errors import ConfigError
from ajet.launcher.logs import log_to_console

SOURCE = "AgentJetJob"


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
        num_repeat: sets `rollout.num_repeat`.
        batch_size: sets `data.train_batch_size`.
        experiment_name: sets the name of the run folder.
        judge: sets `task_judge.judge_protocol`; a class or its class path.
        settings: any other keys of the YAML by their paths: `{"rollout.temperature": 0.9}`.
    """

    def __init__(
        self,
        *,
        backbone: str | None = None,
        model: str | None = None,
        n_gpu: int | None = None,
        algorithm: str | None = None,
        num_repeat: int | None = None,
        batch_size: int | None = None,
        experiment_name: str | None = None,
        judge: type | str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings = Settings(data={"ajet": {}}, source=SOURCE)
        self._yaml_path = Path("agentjet_job.yaml")
        named = {
            "backbone": backbone,
            "model.path": model,
            "trainer_common.n_gpus_per_node": n_gpu,
            "trainer_common.algorithm.adv_estimator": algorithm,
            "rollout.num_repeat": num_repeat,
            "data.train_batch_size": batch_size,
            "experiment_name": experiment_name,
            "task_judge.judge_protocol": class_path_of(judge) if isinstance(judge, type) else judge,
        }
        given = {key: value for key, value in named.items() if value is not None}
        for key, value in {**given, **(settings or {})}.items():
            self._set(key, value)

    def set_workflow(self, workflow: type | str) -> Self:
        """Set the workflow: a class at the top level of a file, or its class path."""
        path = workflow if isinstance(workflow, str) else class_path_of(workflow)
        return self._set("rollout.user_workflow", path)

    def set_data(
        self, type: str, dataset_path: str | None = None, validation_path: str | None = None
    ) -> Self:
        """Set where the tasks come from.

        Args:
            type: sets `task_reader.type`.
            dataset_path: file with the training tasks; only for `jsonl_dataset_file`.
            validation_path: file with the validation tasks; only for `jsonl_dataset_file`.

        Raises:
            ConfigError: a path is given for another type.
        """
        self._set("task_reader.type", type)
        for split, path in {"training": dataset_path, "validation": validation_path}.items():
            if path and type != "jsonl_dataset_file":
                raise ConfigError(
                    f'{SOURCE}.set_data: type "{type}" takes no path; only "jsonl_dataset_file" '
                    "does"
                )
            if path:
                self._set(f"task_reader.jsonl_dataset_file.{split}.file_path", str(path))
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
