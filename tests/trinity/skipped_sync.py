"""The command with engines that only say that they took new weights: the negative control."""

from __future__ import annotations

from pathlib import Path

from ajet.backbone.trinity import entry
from ajet.cli import main
from ajet.config.sections.root import RootConfig
from ajet.training.inputs import RunInputs

run = entry.run


def run_with_forgetful_engines(
    config: RootConfig, run_folder: Path, resume: bool, inputs: RunInputs
) -> None:
    """Ray may be imported from here on."""
    from ajet.backbone.trinity import starting
    from tests.trinity.forgetful import ForgetfulExplorer

    starting.PolicyExplorer = ForgetfulExplorer
    run(config, run_folder, resume, inputs)


entry.run = run_with_forgetful_engines
main()
