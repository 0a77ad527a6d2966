"""Replays a recorded step without an engine: merge, judge, credit, train, and compare."""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ajet.config.loading.load import load_config
from ajet.config.sections.root import AjetConfig, RootConfig
from ajet.context_tracker.chat_format import load_tokenizer
from ajet.context_tracker.samples import build_samples
from ajet.errors import ConfigError, DataError, ModelError
from ajet.model_client import PLACE
from ajet.monitor.call_store import call_path, read_calls, recorded_steps
from ajet.monitor.call_table import StoredStep
from ajet.monitor.rollout_store import read_rollouts, rollout_path
from ajet.replay.rescore import Rescorer
from ajet.replay.stages import (
    Stage,
    compare_advantages,
    compare_rewards,
    compare_samples,
)
from ajet.replay.training import TrainingSource, compare_training
from ajet.replay.trust import refuse_unknown_code
from ajet.schema.episode import Episode, Sample
from ajet.task_judge import make_judge
from ajet.training.checkpoints import list_checkpoints
from ajet.training.episodes import sample_limits
from ajet.training.model_folder import model_folder

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Replay:
    """The result of a replay."""

    run_folder: Path
    step: int
    given: list[str]
    """Settings that replaced the run's, as `key.path=value`."""
    stages: list[Stage]
    not_stored: dict[str, list[str]]
    """Episode id -> parts of its task or output that JSON could not hold."""

    @property
    def agrees(self) -> bool:
        """Whether every stage is equal, skipped, or changed because the user asked for it."""
        return all(stage.outcome != "differs" for stage in self.stages)

    def as_json(self) -> dict[str, Any]:
        """The report as plain data, for `replays/*.json`."""
        return {
            "run": str(self.run_folder),
            "step": self.step,
            "given": self.given,
            "agrees": self.agrees,
            "not_stored": self.not_stored,
            "stages": [
                {
                    "name": stage.name,
                    "outcome": stage.outcome,
                    "summary": stage.summary,
                    "differences": stage.differences,
                    **stage.data,
                }
                for stage in self.stages
            ],
        }


def replay(
    run_folder: Path,
    *,
    step: int | None = None,
    judge: str | None = None,
    overrides: Sequence[str] = (),
    with_training: bool = True,
    tolerance: float | None = None,
    trust: bool = False,
) -> Replay:
    """Replay one step of a run.

    Args:
        run_folder: the folder of the run.
        step: the step; None: the last one whose starting weights are saved, or else the last one.
        judge: class path of a judge that judges every episode, instead of the run's judge.
        overrides: `key.path=value` on top of the run's configuration.
        with_training: also repeat the training of the step.
        tolerance: differences of metrics and weights up to this number count as equal; None: 0,
            or the rounding between two trainers if verl trained.
        trust: execute code that the run folder names, such as its judge.

    Raises:
        ConfigError: `run_folder` is not the folder of a run, a setting is wrong, or code of the
            run folder would be executed and is not trusted.
        DataError: the step is not recorded.
    """
    path = run_folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{run_folder} is not the folder of a run: it has no config.yaml")
    given = [*overrides]
    if judge:
        given += ["task_judge.judge_type=customized_protocol", f"task_judge.judge_protocol={judge}"]
    search_path = list(sys.path)
    config = load_config(path, given)
    if not trust:
        # Loading makes modules beside the YAML importable, in the place of libraries that are not
        # installed here.
        sys.path[:] = search_path
        refuse_unknown_code(config, given, with_training=with_training, where=str(run_folder))
    PLACE.set_run(run_folder.resolve())
    step = _checked_step(run_folder, step)
    recorded = read_calls(call_path(run_folder, step))
    samples = _samples_on_record(run_folder, step)
    _merge(recorded.episodes, config.ajet)
    judged = _judged_again(recorded, config, step, asks_always=judge is not None)
    estimator = config.ajet.trainer_common.algorithm.adv_estimator
    advantages, report = compare_advantages(samples, judged, estimator)
    stages = [
        compare_samples(samples, [e for e in recorded.episodes if e.failure is None]),
        compare_rewards(recorded.episodes, judged.episodes, config.ajet.task_judge.judge_class),
        advantages,
    ]
    if with_training:
        source = TrainingSource(run_folder=run_folder, step=step, tolerance=tolerance)
        stages.append(compare_training(source, config.ajet, report.samples))
    asked_for = _asked_for(load_config(path).ajet, config.ajet, has_judge=judge is not None)
    for stage in stages:
        stage.is_asked_for = asked_for[stage.name]
    return Replay(
        run_folder=run_folder,
        step=step,
        given=given,
        stages=stages,
        not_stored=recorded.not_stored,
    )


def _asked_for(before: AjetConfig, now: AjetConfig, *, has_judge: bool) -> dict[str, bool]:
    """Stage -> whether other settings or another judge may change its results."""
    merge = sample_limits(before) != sample_limits(now)
    rewards = has_judge or before.task_judge != now.task_judge
    advantages = (
        merge
        or rewards
        or before.trainer_common.algorithm.adv_estimator
        != now.trainer_common.algorithm.adv_estimator
    )
    training = (
        advantages or before.trainer_common != now.trainer_common or before.model != now.model
    )
    return {"merge": merge, "rewards": rewards, "advantages": advantages, "training": training}


def _checked_step(run_folder: Path, step: int | None) -> int:
    steps = recorded_steps(run_folder)
    if not steps:
        raise DataError(f"{run_folder}: the calls of no step are recorded in this folder")
    if step is None:
        starts = {0, *(int(path.name[5:]) for path in list_checkpoints(run_folder / "checkpoints"))}
        return max((s for s in steps if s - 1 in starts), default=steps[-1])
    if step not in steps:
        raise DataError(
            f"{run_folder}: step {step} is not recorded; the steps {steps[0]} to {steps[-1]} are"
        )
    return step


def _samples_on_record(run_folder: Path, step: int) -> dict[str, list[Sample]]:
    """Episode id -> its recorded samples."""
    path = rollout_path(run_folder, step)
    if not path.is_file():
        raise DataError(f"{path} is missing: the calls of the step are recorded, its samples not")
    samples = defaultdict(list)
    for sample in read_rollouts(path):
        samples[sample.episode_id].append(sample)
    return samples


def _merge(episodes: Sequence[Episode], ajet: AjetConfig) -> None:
    """Merge each episode's calls into samples again, as the tracker did when the episode ended."""
    for episode in episodes:
        episode.samples, episode.dropped_tokens = build_samples(
            episode.calls, episode.episode_id, episode.task.task_id, sample_limits(ajet)
        )


def _judged_again(
    recorded: StoredStep, config: RootConfig, step: int, *, asks_always: bool
) -> StoredStep:
    ajet = config.ajet
    again = Rescorer(
        judge=make_judge(ajet.task_judge.judge_class, config),
        asks_always=asks_always,
        task_tag=f"train/{step:06d}",
        tokenizer=_tokenizer(config),
    )
    num_threads = ajet.rollout.max_env_worker
    groups = again.rewarded_groups([*recorded.groups, *recorded.discarded], num_threads=num_threads)
    num_trained = len(recorded.groups)
    return StoredStep(groups=groups[:num_trained], discarded=groups[num_trained:])


def _tokenizer(config: RootConfig) -> Any:
    """The model's tokenizer for judges that need one, or None if it cannot be loaded."""
    try:
        return load_tokenizer(model_folder(config.ajet.model.path), config.ajet.model.path)
    except ModelError as error:
        # Most judges read text only, so a run can be judged again without its model.
        logger.warning("the judge gets no tokenizer: %s", error)
        return None
