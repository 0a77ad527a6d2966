"""`ajet.task_judge`: what gives the reward when the workflow returns none."""

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
"""`task_judge.judge_type` -> class path. A new judge is one file and one line here; settings of its
own are a section of that name below. `customized_protocol` is the class of `judge_protocol`."""


Own = Annotated[Any, free_beside("judge_type", "judge_protocol")]


class TaskJudgeConfig(BaseConfig):
    """What gives the reward when the workflow returns none.

    Other keys than those below are settings of your own judge, which reads them as
    `config.ajet.task_judge.my_key`.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, free_beside("judge_type", "judge_protocol")]] = (
        Field(init=False)
    )

    judge_type: Annotated[str, Registered(JUDGES, later=("rubrics_auto_grader",))] = CUSTOM
    """A judge of AgentJet by its name; `customized_protocol` takes the one of `judge_protocol`."""
    judge_protocol: ClassPath | None = None
    """The judge's class, or a function `(workflow_task, workflow_output)` that returns reward and
    success. Null: every workflow output must have a reward."""

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
