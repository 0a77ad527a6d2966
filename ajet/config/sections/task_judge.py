"""`ajet.task_judge`: the judge, which gives the reward if the workflow returns none."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from ajet.config.loading.class_paths import ClassPath, Registered, free_beside
from ajet.config.messages import value_error
from ajet.config.sections.model_client import ModelClientConfig
from ajet.config.sections.section import BaseConfig
from ajet.config.sections.types import Count, NotNegative, Positive

CUSTOM = "customized_protocol"

JUDGES: dict[str, str | None] = {
    CUSTOM: None,
    "math_answer": "ajet.task_judge.math_answer_as_judge->MathAnswerAsJudge",
    "rule": "ajet.task_judge.rule_judge->RuleJudge",
    "countdown": "ajet.task_judge.countdown_judge->CountdownAnswerAsJudge",
    "llm": "ajet.task_judge.llm_judge->LlmJudge",
    "rubric": "ajet.task_judge.llm_judge->RubricJudge",
    "rubrics_auto_grader": "ajet.task_judge.rm_auto_grader_judge->AutoGraderJudge",
    "relative": "ajet.task_judge.relative_judge->RelativeJudge",
    "environment": "ajet.task_judge.env_service_as_judge->EnvServiceJudge",
    "combined": "ajet.task_judge.combined_judge->CombinedJudge",
}
"""`task_judge.judge_type` -> class path. To add a judge, write one file and add one line here; its
own settings are a section of that name below. `customized_protocol` uses `judge_protocol`."""

LISTWISE = "ajet.task_judge.rm_auto_grader_judge->ListwiseAutoGraderJudge"

Own = Annotated[Any, free_beside("judge_type", "judge_protocol")]
See = Literal["answer", "trajectory"]


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise value_error(f"not a regular expression: {error}") from None
    return value


class RuleJudgeConfig(BaseConfig):
    """A rule that compares the answer with the task's; no model is asked."""

    kind: Literal["math", "exact", "regex", "json_fields", "expression", "code"] = "math"
    """`math`: by math-verify. `exact`: the same text. `regex`: the text that `pattern` finds.
    `json_fields`: a JSON object with the right values. `expression`: arithmetic that gives the
    right number. `code`: a Python program that passes the task's tests, in a sandbox."""
    answer_key: str = "answer"
    """Key of the right answer in the task's metadata; for `code`, of the tests."""
    output_key: str = "final_answer"
    """Key of the agent's answer in the output's metadata. Without it, the last message counts."""
    ignore_case: bool = True
    """For `exact` and `regex`: case and the number of blanks make no difference."""
    pattern: Annotated[str, AfterValidator(_pattern)] | None = None
    """For `regex`: what is searched in the answer. With a group, the last match of the group must
    be the right answer; without one, a match is enough."""
    fields: list[str] = []
    """For `json_fields`: the fields that count. Empty: all fields of the right answer."""
    partial: bool = True
    """For `json_fields` and `code`: the reward is the share of right fields or passed tests.
    False: it is 1 only if all are right."""
    time_limit_s: Positive = 5.0
    """For `code`: seconds for each test. For `regex`: for the search."""
    memory_mb: Count = 512
    """For `code`: memory of the program."""

    @model_validator(mode="after")
    def _has_a_pattern(self) -> RuleJudgeConfig:
        if self.kind == "regex" and not self.pattern:
            raise value_error("kind regex needs pattern")
        return self


class CountdownJudgeConfig(BaseConfig):
    r"""An expression in `\boxed{}` that uses every given number once and reaches the target."""

    numbers_key: str = "nums"
    """Key of the numbers in the task's metadata."""
    target_key: str = "target"
    """Key of the target in the task's metadata."""
    format_reward: NotNegative = 0.1
    r"""The reward of a wrong answer in `\boxed{}`."""


class ScoredConfig(BaseConfig):
    """What all judges have that ask a model for a score."""

    see: See = "answer"
    """What the model sees: the final answer, or the whole conversation with tool calls."""
    output_key: str = "final_answer"
    """Key of the final answer in the output's metadata. Without it, the last message counts."""
    reference_key: str = "answer"
    """Key of the reference in the task's metadata, for `{reference}`."""
    votes: Count = 1
    """The model is asked so often, and the mean of its scores counts. More than one needs a model
    with a temperature above 0."""
    success_at: float = 0.5
    """The reward from which a task counts as solved."""


def _question(value: str) -> str:
    if "{answer}" not in value and "{trajectory}" not in value:
        raise value_error("the question has neither {answer} nor {trajectory}")
    return value


class LlmJudgeConfig(ScoredConfig):
    """One question to a model, which answers with a score and its reason."""

    question: Annotated[str, AfterValidator(_question)] | None = None
    """What the model is asked, with the fields `{query}`, `{answer}`, `{trajectory}`, `{reference}`
    and `{metadata.NAME}` of the task. Null: whether the answer solves the task."""
    min_score: float = 0.0
    """The worst score that the model may give; it becomes the reward 0."""
    max_score: float = 10.0
    """The best one; it becomes the reward 1."""

    @model_validator(mode="after")
    def _is_a_scale(self) -> LlmJudgeConfig:
        if self.min_score >= self.max_score:
            raise value_error("min_score must be below max_score")
        return self


class CriterionConfig(BaseConfig):
    """One criterion of a rubric."""

    name: str = Field(pattern=r"^\w[\w -]*$")
    """Its name, in reasons and metrics."""
    description: str
    """What a good answer does."""
    weight: Positive = 1.0
    """Its share in the reward, relative to the other weights."""


class RubricJudgeConfig(ScoredConfig):
    """Several criteria, each with a score and a reason."""

    criteria: list[CriterionConfig] = []
    """The criteria."""
    min_score: float = 0.0
    """The worst score of a criterion; it becomes 0."""
    max_score: float = 10.0
    """The best one; it becomes 1."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> RubricJudgeConfig:
        names = [criterion.name for criterion in self.criteria]
        if len(set(names)) < len(names):
            raise value_error("two criteria have the same name")
        if self.min_score >= self.max_score:
            raise value_error("min_score must be below max_score")
        return self


class RelativeJudgeConfig(ScoredConfig):
    """All episodes of a task are compared with each other (RULER, of OpenPipe's ART)."""

    question: str = "Which answers solve the task better?"
    """What the model compares by."""
    max_at_once: Annotated[int, Field(ge=2)] = 8
    """Answers in one comparison. A larger group is compared in parts that share one answer, the
    anchor, by which their scores are aligned."""
    seed: int = 0
    """Seed of the order in which answers are shown. The order differs for each vote."""


class LabelledSplitConfig(BaseConfig):
    """A file of labelled samples."""

    file_path: str | None = None
    """The file, looked for in the current directory."""


class LabelledFileConfig(BaseConfig):
    """Labelled samples."""

    training: LabelledSplitConfig = LabelledSplitConfig()
    """The labelled samples from which the criteria are written."""


class AutoGraderConfig(ScoredConfig):
    """A rubric that a model writes once, from labelled samples."""

    grader_mode: Literal["pointwise", "listwise"] = "pointwise"
    """`pointwise`: each answer gets scores. `listwise`: the answers of a task are compared."""
    model_name: str | None = None
    """Name of the model. Null: that of `task_judge.model`."""
    language: str = "en"
    """Language of the criteria."""
    min_score: float = 0.0
    """The worst score."""
    max_score: float = 10.0
    """The best score."""
    query_specific_generate_number: Count = 1
    """Criteria that the model writes for each labelled sample."""
    enable_categorization: bool = True
    """Merge the criteria of all samples into `categories_number` ones."""
    categories_number: Count = 5
    """Criteria of the rubric."""
    grader_name: str = "auto_grader"
    """Name of the rubric."""
    query_field: str = "main_query"
    """Field of a labelled sample with the query."""
    answer_field: str = "final_answer"
    """Field of the metadata with the answer: of a sample, and of a workflow's output. A sample may
    call it `answer`."""
    reference_field: str | None = None
    """Field of the task's metadata with a reference answer, which the model then sees."""
    custom_evaluation_prompt: str | None = None
    """Further advice for the model."""
    input_data_type: Literal["jsonl_dataset_file"] = "jsonl_dataset_file"
    """Kind of source of the labelled samples."""
    jsonl_dataset_file: LabelledFileConfig = LabelledFileConfig()
    """The file with them: lines with `main_query`, and `metadata` with `answer` and `score`, or
    with `candidates`, a list of `answer` and `rank`."""
    max_samples: Count = 20
    """Samples that are read."""
    rubrics_file: str | None = None
    """File of the rubric. A file that exists is used unchanged, so it can be edited by hand. Null:
    `auto_grader.json` in `ajet.experiment_dir`."""


class OneJudgeConfig(BaseConfig):
    """One judge: of a run, or a part of a combined one."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, free_beside("judge_type", "judge_protocol")]] = (
        Field(init=False)
    )

    judge_type: Annotated[str, Registered(JUDGES)] = CUSTOM
    """Name of a judge that AgentJet ships; `customized_protocol` uses `judge_protocol`."""
    judge_protocol: ClassPath | None = None
    """Class path of a judge, or of a function `(workflow_task, workflow_output)` that returns
    reward and success. Null: no judge; every workflow output must have a reward."""
    model: ModelClientConfig = ModelClientConfig()
    """The model that `llm`, `rubric`, `relative` and `rubrics_auto_grader` ask. A part of a
    combined judge without one asks that of the combined judge."""
    rule: RuleJudgeConfig = RuleJudgeConfig()
    countdown: CountdownJudgeConfig = CountdownJudgeConfig()
    llm: LlmJudgeConfig = LlmJudgeConfig()
    rubric: RubricJudgeConfig = RubricJudgeConfig()

    @property
    def judge_class(self) -> str | None:
        """Class path of the configured judge; None: the workflow gives the reward."""
        if self.judge_type == CUSTOM:
            return self.judge_protocol
        return JUDGES.get(self.judge_type, self.judge_type)

    @model_validator(mode="after")
    def _names_one_judge(self) -> OneJudgeConfig:
        if self.judge_protocol and self.judge_type != CUSTOM:
            raise value_error(
                f'judge_protocol needs judge_type "{CUSTOM}", got "{self.judge_type}"'
            )
        if self.judge_type == "rubric" and not self.rubric.criteria:
            raise value_error("judge_type rubric needs rubric.criteria")
        return self

    @model_validator(mode="after")
    def _votes_can_differ(self) -> OneJudgeConfig:
        scored = getattr(self, self.judge_type, None)
        if isinstance(scored, ScoredConfig) and scored.votes > 1 and self.model.temperature == 0:
            raise value_error(
                f"{self.judge_type}.votes is {scored.votes}, but at model.temperature 0 all votes "
                "are the same: set model.temperature, for example to 0.7"
            )
        return self


class PartConfig(OneJudgeConfig):
    """A part of a combined judge."""

    name: str = ""
    """Its name in the reasons; by default its `judge_type`."""
    weight: NotNegative = 1.0
    """Its share in the reward, relative to the other weights."""
    is_gate: bool = False
    """The parts below it count only if this one says success. Otherwise the reward is
    `gate_reward`, and they are not asked."""
    gate_reward: float = 0.0
    """The reward if this gate is closed."""

    @model_validator(mode="after")
    def _judges_episodes(self) -> PartConfig:
        if self.judge_class is None:
            raise value_error("a part needs judge_type or judge_protocol")
        if self.judge_type in ("combined", "relative", "rubrics_auto_grader"):
            raise value_error(f'a part cannot be of judge_type "{self.judge_type}"')
        return self


class CombinedJudgeConfig(BaseConfig):
    """Several judges: the weighted mean of their rewards, behind gates."""

    parts: list[PartConfig] = []
    """The judges, in the order in which they are asked."""
    success_at: float | None = None
    """The reward from which a task counts as solved. Null: if every part says so."""


class TaskJudgeConfig(OneJudgeConfig):
    """The judge gives the reward if the workflow returns none.

    With a class path, additional keys are settings of your own judge, which reads them as
    `config.ajet.task_judge.my_key`.
    """

    alien_llm_model: str | None = None
    """AgentJet's name of `model.model`, which goes before it."""
    alien_llm_response_length: Count | None = None
    """AgentJet's name of `model.max_tokens`, which goes before it."""
    relative: RelativeJudgeConfig = RelativeJudgeConfig()
    rubrics_auto_grader: AutoGraderConfig = AutoGraderConfig()
    combined: CombinedJudgeConfig = CombinedJudgeConfig()

    @property
    def judge_class(self) -> str | None:
        """Class path of the configured judge; None: the workflow gives the reward."""
        is_auto = self.judge_type == "rubrics_auto_grader"
        if is_auto and self.rubrics_auto_grader.grader_mode == "listwise":
            return LISTWISE
        return super().judge_class

    @model_validator(mode="after")
    def _has_parts(self) -> TaskJudgeConfig:
        if self.judge_type == "combined" and not self.combined.parts:
            raise value_error("judge_type combined needs combined.parts")
        return self
