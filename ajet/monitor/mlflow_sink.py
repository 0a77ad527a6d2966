"""Writes metrics to MLflow: a server, a database, or a folder of files."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from ajet.errors import MissingExtraError
from ajet.monitor.sinks import SinkContext

RUN_ID_TAG = "ajet.run_id"
"""Tag by which a resumed run finds its MLflow run."""
MAX_PARAMS, MAX_METRICS = 100, 1000
"""MLflow's limits on one request."""
MAX_VALUE = 6000
"""MLflow's limit on the length of a parameter's value."""


class MlflowSink:
    """Writes one MLflow run in an experiment that has the project's name.

    Raises:
        MissingExtraError: `mlflow-skinny` or `mlflow` is not installed.
    """

    def __init__(self, context: SinkContext) -> None:
        # The folder is the store that needs no server and no database driver.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            from mlflow import entities
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            if find_spec("mlflow"):
                raise
            raise MissingExtraError("mlflow-skinny", "trackers") from error
        self._entities = entities
        uri = context.settings["tracking_uri"] or os.environ.get("MLFLOW_TRACKING_URI")
        self._client = MlflowClient(uri or (context.trackers / "mlflow").absolute().as_uri())
        self._run_id = self._find(context) or self._create(context)
        self._client.update_run(self._run_id, status="RUNNING")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of the step in as few requests as MLflow allows."""
        now_ms = int(time.time() * 1000)
        rows = [
            self._entities.Metric(_allowed(name), float(value), now_ms, step)
            for name, value in metrics.items()
        ]
        for start in range(0, len(rows), MAX_METRICS):
            self._client.log_batch(self._run_id, metrics=rows[start : start + MAX_METRICS])

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run_id)

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)

    def _find(self, context: SinkContext) -> str | None:
        """The run that a resumed run continues, if it is there."""
        if context.resumed_step is None:
            return None
        experiment = self._experiment(context.config.ajet.project_name)
        having = f"tags.`{RUN_ID_TAG}` = '{context.run_id}'"
        runs = self._client.search_runs([experiment], having, max_results=1)
        return runs[0].info.run_id if runs else None

    def _create(self, context: SinkContext) -> str:
        experiment = self._experiment(context.config.ajet.project_name)
        tags = {**context.settings["tags"], RUN_ID_TAG: context.run_id}
        run = self._client.create_run(experiment, tags=tags, run_name=context.run_folder.name)
        params = [self._param(name, value) for name, value in context.shown_config().items()]
        for start in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(run.info.run_id, params=params[start : start + MAX_PARAMS])
        return str(run.info.run_id)

    def _param(self, name: str, value: Any) -> Any:
        return self._entities.Param(_allowed(name), str(value)[:MAX_VALUE])


def _allowed(name: str) -> str:
    """The name with characters that MLflow accepts: `eval/pass@4` is `eval/pass_at_4`."""
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"), flags=re.ASCII)
