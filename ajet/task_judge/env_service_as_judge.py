"""Uses the environment's own score as the reward."""

from __future__ import annotations

from ajet.environment.episode_environment import EpisodeEnvironment
from ajet.errors import EpisodeError
from ajet.schema.task import WorkflowOutput, WorkflowTask
from ajet.task_judge.base_judge import BaseJudge

SCORE = "environment_score"
"""Key of the score in the output's metadata, so that a replay needs no environment."""


class EnvServiceJudge(BaseJudge):
    """Asks `gym_env.evaluate` for a score r, usually from 0 to 1.

    The task is solved if r >= 1. The reward is 1 + r/2 for a solved task, otherwise r/2.
    """

    def compute_reward(
        self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput
    ) -> tuple[float, bool]:
        """Ask the environment for the score of the episode.

        Raises:
            EpisodeError: the episode has no environment.
        """
        environment: EpisodeEnvironment | None = workflow_task.gym_env
        if environment is not None:
            score = environment.evaluate(workflow_task.episode_uuid, params={"sparse": False})
            workflow_output.metadata[SCORE] = score
        elif SCORE in workflow_output.metadata:
            score = float(workflow_output.metadata[SCORE])
        else:
            raise EpisodeError(
                "EnvServiceJudge needs an environment, and this episode has none: set "
                "ajet.environment.type, or read tasks with ajet.task_reader.type: env_service"
            )
        is_success = score >= 1.0
        return 0.5 * score + (1.0 if is_success else 0.0), is_success
