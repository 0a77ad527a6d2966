"""A rubric that a model writes once from labelled samples, and that people can edit.

For each sample the model writes criteria that tell its good answers from its bad ones; then it
merges them into a few. The rubric is kept as a JSON file. A file that is there is used as it is.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from ajet.config.sections.task_judge import AutoGraderConfig, CriterionConfig
from ajet.errors import ConfigError, DataError
from ajet.model_client import PLACE, ModelClient
from ajet.schema.task import WorkflowOutput, WorkflowTask
from ajet.task_judge.base_judge import BaseGroupJudge
from ajet.task_judge.judge_prompt import SYSTEM, as_text, mark_of, marked
from ajet.task_judge.llm_judge import rubric_verdict
from ajet.task_judge.relative_judge import Comparison
from ajet.task_judge.verdicts import FormBase, ReasonedJudge, Verdict, judge_model

KEY = "ajet.task_judge.rubrics_auto_grader"
FILE_NAME = "auto_grader.json"


class WrittenCriterion(FormBase):
    """A criterion as a model writes it."""

    name: str = Field(pattern=r"^\w[\w -]*$", max_length=60)
    description: str
    weight: float = Field(gt=0, le=10)


class WrittenRubric(FormBase):
    """Criteria as a model writes them."""

    criteria: list[WrittenCriterion] = Field(min_length=1)


class StoredRubric(BaseModel):
    """The file with the rubric. Further keys are ignored, so it can have notes."""

    criteria: list[CriterionConfig] = Field(min_length=1)


class AutoRubric:
    """The rubric of a run: read from its file, or written by a model when it is first needed."""

    def __init__(self, config: Any) -> None:
        judge = config.ajet.task_judge
        self.settings: AutoGraderConfig = judge.rubrics_auto_grader
        model = judge_model(judge)
        if self.settings.model_name:
            model = model.model_copy(update={"model": self.settings.model_name})
        self.client = ModelClient(model, purpose="judge")
        self._lock = asyncio.Lock()
        self._criteria: list[CriterionConfig] | None = None
        source = self.settings.jsonl_dataset_file.training.file_path
        if not self._path.is_file() and (source is None or not Path(source).is_file()):
            raise ConfigError(
                f"{KEY}: there is no rubric at {self._path}, and no file of labelled samples to "
                f"write one from: {KEY}.jsonl_dataset_file.training.file_path is {source}"
            )

    @property
    def _path(self) -> Path:
        given = self.settings.rubrics_file
        return Path(given) if given else PLACE.experiment_dir / FILE_NAME

    async def criteria(self) -> list[CriterionConfig]:
        """The criteria; the first call may ask the model.

        Raises:
            DataError: the file of the rubric or of the samples is wrong.
            ModelCallError: the model wrote no rubric.
        """
        async with self._lock:
            if self._criteria is None:
                if not self._path.is_file():
                    self._keep(await self._written())
                self._criteria = self._kept()
            return self._criteria

    def _kept(self) -> list[CriterionConfig]:
        try:
            return StoredRubric.model_validate_json(self._path.read_bytes()).criteria
        except (ValidationError, OSError) as error:
            raise DataError(f"{self._path} is not a rubric: {error}") from error

    def _keep(self, rubric: WrittenRubric) -> None:
        settings = self.settings
        stored = {
            "name": settings.grader_name,
            "model": self.client.config.model,
            "made_from": settings.jsonl_dataset_file.training.file_path,
            **rubric.model_dump(),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        aside.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        aside.replace(self._path)

    async def _written(self) -> WrittenRubric:
        settings = self.settings
        samples = self._samples()
        number = settings.query_specific_generate_number
        asked = [self._ask(_described(sample, settings), number) for sample in samples]
        rubrics = await asyncio.gather(*asked)
        written = [criterion for rubric in rubrics for criterion in rubric.criteria]
        unique = list({criterion.name: criterion for criterion in written}.values())
        if not settings.enable_categorization or len(unique) <= settings.categories_number:
            return WrittenRubric(criteria=unique)
        listed = json.dumps([criterion.model_dump() for criterion in unique], ensure_ascii=False)
        return await self._ask(
            [f"Merge these criteria into at most {settings.categories_number}:", ("notes", listed)],
            settings.categories_number,
        )

    async def _ask(self, parts: list[str | tuple[str, str]], number: int) -> WrittenRubric:
        settings = self.settings
        texts = [part for part in parts if isinstance(part, tuple)]
        mark = mark_of(text for _, text in texts)
        lines = [part if isinstance(part, str) else marked(*part, mark) for part in parts]
        lines.append(
            f"Write {number} {'criterion' if number == 1 else 'criteria'} that tell good answers "
            "to such tasks from bad ones, each with a short name of letters, a description of what "
            f"a good answer does, and a weight. Write in this language: {settings.language}. "
            f"{settings.custom_evaluation_prompt or ''}".strip()
        )
        messages = [
            {"role": "system", "content": SYSTEM.format(mark=mark)},
            {"role": "user", "content": "\n\n".join(lines)},
        ]
        answer = await self.client.ask(messages, form=WrittenRubric)
        rubric: WrittenRubric = answer.value
        return WrittenRubric(criteria=rubric.criteria[:number])

    def _samples(self) -> list[dict[str, Any]]:
        path = Path(self.settings.jsonl_dataset_file.training.file_path or "")
        samples = []
        # Not `splitlines`: texts in JSON may contain what it takes for the end of a line.
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
            if not line.strip():
                continue
            try:
                sample = json.loads(line)
                assert isinstance(sample["metadata"], dict)
            except (ValueError, TypeError, KeyError, AssertionError, RecursionError):
                raise DataError(
                    f"{path}:{number}: expected a JSON object with main_query and metadata"
                ) from None
            samples.append(sample)
        if not samples:
            raise DataError(f"{path} has no labelled sample")
        return samples[: self.settings.max_samples]


def _described(sample: dict[str, Any], settings: AutoGraderConfig) -> list[str | tuple[str, str]]:
    metadata = sample["metadata"]
    parts: list[str | tuple[str, str]] = [
        "A task, and answers to it with their labels.",
        ("query", as_text(sample.get(settings.query_field, ""))),
    ]
    if settings.reference_field and settings.reference_field in metadata:
        parts.append(("reference", as_text(metadata[settings.reference_field])))
    candidates = metadata.get("candidates")
    if isinstance(candidates, list):
        for candidate in candidates:
            parts += [f"Rank {candidate.get('rank')}:", ("answer", as_text(candidate["answer"]))]
        return parts
    answer = metadata.get(settings.answer_field, metadata.get("answer", ""))
    return [*parts, ("answer", as_text(answer)), f"Its label: {metadata.get('score')}"]


class AutoGraderJudge(ReasonedJudge):
    """Scores each episode by the rubric (`grader_mode: pointwise`)."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._rubric = AutoRubric(config)
        self.holds_place = self._rubric.client.is_policy

    async def verdict(
        self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput
    ) -> Verdict:
        """Score the episode; the reasons have the score of each criterion."""
        return await rubric_verdict(
            self._rubric.client,
            _as_scored(self._rubric.settings),
            await self._rubric.criteria(),
            workflow_task,
            workflow_output,
            advice=self._rubric.settings.custom_evaluation_prompt or "",
        )


class ListwiseAutoGraderJudge(BaseGroupJudge):
    """Compares the episodes of a task by the rubric (`grader_mode: listwise`)."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._rubric = AutoRubric(config)

    async def compute_rewards(
        self, workflow_task: WorkflowTask, workflow_outputs: Sequence[WorkflowOutput]
    ) -> list[tuple[float, bool]]:
        """Compare the outputs; the reasons are the model's own words about each."""
        listed = "\n".join(
            f"- {each.name} (weight {each.weight:g}): {each.description}"
            for each in await self._rubric.criteria()
        )
        comparison = Comparison(
            client=self._rubric.client,
            settings=_as_scored(self._rubric.settings),
            question=f"Which answers are better by these criteria?\n{listed}",
        )
        return await comparison.rewards(workflow_task, workflow_outputs)


def _as_scored(settings: AutoGraderConfig) -> AutoGraderConfig:
    """The settings with AgentJet's field names in place of ours."""
    reference = settings.reference_field or settings.reference_key
    update = {"output_key": settings.answer_field, "reference_key": reference}
    return settings.model_copy(update=update)
