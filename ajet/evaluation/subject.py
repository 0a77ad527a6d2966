"""What is evaluated, exported or served: a step of a run, the base model, a folder, or a URL."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ajet.config.loading.load import load_config
from ajet.config.sections.debug import is_url
from ajet.config.sections.root import RootConfig
from ajet.errors import ConfigError
from ajet.launcher.run_folder import BASE, checkpoint_of
from ajet.model_files import ADAPTER_CONFIG
from ajet.training.model_folder import weights_of


@dataclass(slots=True, kw_only=True, frozen=True)
class Subject:
    """A model, and the configuration to run it with."""

    name: str
    """Such as `math_agent@12` or `base`."""
    config: RootConfig
    """With the model's folder as `model.path`, or its URL as `debug.engine`."""
    run: Path | None
    """The folder of the run that it comes from."""
    step: int | None
    """The step of that run; 0 is its base model. None: it comes from no run."""

    @property
    def url(self) -> str | None:
        """The server's URL; None: the model is a folder."""
        engine = self.config.ajet.debug.engine
        return engine if is_url(engine) else None


def find_subject(
    model: str, conf: Path | None, overrides: Sequence[str], served_name: str | None = None
) -> Subject:
    """The model that the command line names.

    Args:
        model: `RUN`, `RUN@STEP`, `RUN@best`, `RUN@base`, `base`, a model's folder, or a URL.
        conf: the configuration; None: that of the run.
        overrides: `key.path=value` on top of it.
        served_name: the model's name on the server at that URL.

    Raises:
        ConfigError: there is no such model, or no configuration to run it with.
    """
    run, step, folder = _of_run(model)
    if run is not None:
        conf = conf or run / "config.yaml"
        name = f"{run.resolve().name}@{step or BASE}"
    else:
        name = model if is_url(model) or model == BASE else Path(model).resolve().name
    if conf is None:
        raise ConfigError(
            f"{model} is not the folder of a run, so --conf FILE must name a configuration with "
            "the workflow and the tasks"
        )
    chosen = []
    if is_url(model):
        chosen = [f"debug.engine={json.dumps(model)}"]
        chosen += [f"debug.model={json.dumps(served_name)}"] if served_name else []
        name = f"{served_name} at {model}" if served_name else model
    elif folder is not None and run is not None:
        of_run = load_config(run / "config.yaml", overrides if conf == run / "config.yaml" else [])
        chosen = weights_of(folder, of_run.ajet.model)
    elif folder is not None:
        chosen = [f"model.path={json.dumps(str(folder.absolute()))}"]
    config = load_config(conf, [*overrides, *chosen, *_not_a_server(model)])
    return Subject(name=name, config=config, run=run, step=step)


def _not_a_server(model: str) -> list[str]:
    return [] if is_url(model) else ["debug.engine=embedded"]


def _of_run(model: str) -> tuple[Path | None, int | None, Path | None]:
    """The run, the step and the model's folder; the folder is None for a base model or a URL."""
    if is_url(model) or model == BASE:
        return None, None, None
    path, asked = Path(model), None
    if not path.exists() and (match := re.fullmatch(r"(.+)@(\w+)", model)):
        path, asked = Path(match[1]), match[2]
    is_model = (path / "config.json").is_file() or (path / ADAPTER_CONFIG).is_file()
    if not (path / "config.yaml").is_file() and is_model:
        return None, None, path
    if not (path / "config.yaml").is_file():
        raise ConfigError(
            f"{model}: expected the folder of a run, RUN@STEP, a model's folder, `base` or a URL"
        )
    return (path, *checkpoint_of(path, asked))
