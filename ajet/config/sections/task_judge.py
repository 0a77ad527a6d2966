"""`ajet.task_judge`: the judge, which gives the reward if the workflow returns none."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from ajet.config.loading.class_paths import ClassPath, Registered, free_beside
from ajet.config.messages import value_error
from ajet.config.sections.section import BaseConfig

CUSTOM = "customized_protocol"

JUDGES: dict[str, str | None] = {
    CUSTOM: None,
    "math_answer": "ajet.task_judge.math_answer_as_judge->MathAnswerAsJudge",
}
"""`task_judge.judge_type` -> class path. To add a judge, write one file and add one line here; its
own settings are a section of that name below. `customized_protocol` uses `judge_protocol`."""


Own = Annotated[Any, free_beside("judge_type", "judge_protocol")]


class TaskJudgeConfig(BaseConfig):
    """The judge gives the reward if the workflow returns none.

    With a class path, additional keys are settings of your own judge, which reads them as
    `config.ajet.task_judge.my_key`.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, free_beside("judge_type", "judge_protocol")]] = (
        Field(init=False)
    )

    judge_type: Annotated[str, Registered(JUDGES, later=("rubrics_auto_grader",))] = CUSTOM
    """Name of a judge that AgentJet ships; `customized_protocol` uses `judge_protocol`."""
    judge_protocol: ClassPath | None = None
    """Class path of a judge, or of a function `(workflow_task, workflow_output)` that returns
    reward and success. Null: no judge; every workflow output must have a reward."""

    @property
    def judge_class(self) -> str | None:
        """Class path of the configured judge; None: the workflow gives the reward."""
        if self.judge_type == CUSTOM:
            return self.judge_protocol
        return JUDGES.get(self.judge_type, self.judge_type)

    @model_validator(mode="after")
    def _names_one_judge(self) -> TaskJudgeConfig:
        if self.judge_protocol and self.judge_type != CUSTOM:
            raise value_error(
                f'judge_protocol needs judge_type "{CUSTOM}", got "{self.judge_type}"'
            )
        return self
