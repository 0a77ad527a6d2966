"""Several judges as one: the weighted mean of their rewards, and gates in front of them."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from ajet.config.sections.root import RootConfig
from ajet.config.sections.task_judge import PartConfig
from ajet.errors import ConfigError, EpisodeError
from ajet.schema.task import WorkflowOutput, WorkflowTask
from ajet.task_judge import make_judge
from ajet.task_judge.base_judge import BaseJudge
from ajet.task_judge.verdicts import REASONS, ReasonedJudge, Verdict, judge_model


class CombinedJudge(ReasonedJudge):
    """Asks its parts in order. A gate that is closed ends the list: "format first, then content".

    A gate only opens or closes: its own reward does not count. What a part raises fails the whole.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._settings = config.ajet.task_judge.combined
        self._parts = [(part, _judge_of(part, config)) for part in self._settings.parts]
        self.holds_place = any(judge.holds_place for _, judge in self._parts)

    async def verdict(
        self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput
    ) -> Verdict:
        """The verdicts of the parts, which are in the reasons by their names."""
        reasons: dict[str, Any] = {}
        rewards: list[tuple[float, float]] = []
        is_success = True
        for number, (part, judge) in enumerate(self._parts, start=1):
            workflow_output.metadata.pop(REASONS, None)
            reward, solved = await _asked(judge, workflow_task, workflow_output)
            name = part.name or part.judge_type
            name = f"{name}_{number}" if name in reasons else name
            said = workflow_output.metadata.pop(REASONS, None)
            reasons[name] = {"reward": reward, "is_success": solved}
            reasons[name] |= {"reasons": said} if said is not None else {}
            is_success = is_success and solved
            if not part.is_gate:
                rewards.append((part.weight, reward))
            elif not solved:
                reasons[name]["gate"] = "closed"
                return Verdict(reward=part.gate_reward, is_success=False, reasons=reasons)
        weight = sum(weight for weight, _ in rewards)
        # Gates alone: all of them are open.
        reward = sum(w * reward for w, reward in rewards) / weight if weight else 1.0
        if self._settings.success_at is not None:
            is_success = reward >= self._settings.success_at
        return Verdict(reward=reward, is_success=is_success, reasons=reasons)


def _judge_of(part: PartConfig, config: RootConfig) -> BaseJudge:
    outer = judge_model(config.ajet.task_judge)
    own = part if part.model.model else part.model_copy(update={"model": outer})
    ajet = config.ajet.model_copy(update={"task_judge": own})
    judge = make_judge(part.judge_class, config.model_copy(update={"ajet": ajet}))
    if not isinstance(judge, BaseJudge):
        raise ConfigError(
            f"ajet.task_judge.combined: {part.judge_class} judges groups; a part must be a judge "
            "of single episodes"
        )
    return judge


async def _asked(
    judge: BaseJudge, task: WorkflowTask, output: WorkflowOutput
) -> tuple[float, bool]:
    # In a thread: a part may block, and this coroutine runs on the loop of all judges.
    given: Any = await asyncio.to_thread(judge.compute_reward, task, output)
    if inspect.isawaitable(given):
        given = await given
    if not isinstance(given, tuple) or len(given) != 2 or isinstance(given[0], dict | list):
        raise EpisodeError(
            f"{type(judge).__name__} returned {given!r}; as a part of a combined judge it must "
            "return (reward, is_success) with one number"
        )
    reward = float(given[0])
    return reward, reward > 0 if given[1] is None else bool(given[1])
