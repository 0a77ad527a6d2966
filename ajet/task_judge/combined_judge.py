"""Several judges as one: the weighted mean of their rewards, and gates in front of them."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from ajet.config.sections.root import RootConfig
from ajet.config.sections.task_judge import CombinedJudgeConfig, PartConfig
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
        are_any_loop = all(judge.any_loop for _, judge in self._parts)
        self.any_loop = type(self) is CombinedJudge and are_any_loop

    def verdict(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> Any:
        """The verdicts of the parts, which are in the reasons by their names.

        The first parts are asked in the episode's own thread, which may block. As soon as there is
        something to await, the rest is a coroutine.
        """
        tally = _Tally(self._settings)
        for number, (part, judge) in enumerate(self._parts):
            workflow_output.metadata.pop(REASONS, None)
            given = judge.compute_reward(workflow_task, workflow_output)
            if inspect.isawaitable(given):
                return self._rest(number, given, tally, workflow_task, workflow_output)
            tally.add(part, _pair(judge, given), workflow_output.metadata.pop(REASONS, None))
            if tally.is_closed:
                break
        return tally.verdict()

    async def _rest(
        self,
        first: int,
        given: Any,
        tally: _Tally,
        task: WorkflowTask,
        output: WorkflowOutput,
    ) -> Verdict:
        """The verdict, when the part with the index `first` gave something to await."""
        for number, (part, judge) in enumerate(self._parts[first:]):
            if number:
                output.metadata.pop(REASONS, None)
                # In a thread: a part may block, and this may be the loop of all judges.
                given = await asyncio.to_thread(judge.compute_reward, task, output)
            if inspect.isawaitable(given):
                given = await given
            tally.add(part, _pair(judge, given), output.metadata.pop(REASONS, None))
            if tally.is_closed:
                break
        return tally.verdict()


class _Tally:
    """What the parts said so far."""

    def __init__(self, settings: CombinedJudgeConfig) -> None:
        self.is_closed = False
        """Whether a gate is closed. The parts after it are not asked."""
        self._success_at = settings.success_at
        self._reasons: dict[str, Any] = {}
        self._rewards: list[tuple[float, float]] = []
        self._is_success = True
        self._gate_reward = 0.0

    def add(self, part: PartConfig, given: tuple[float, bool], said: Any) -> None:
        """Add what a part gave, and its reasons."""
        reward, solved = given
        name = part.name or part.judge_type
        name = f"{name}_{len(self._reasons) + 1}" if name in self._reasons else name
        reasons = self._reasons[name] = {"reward": reward, "is_success": solved}
        if said is not None:
            reasons["reasons"] = said
        self._is_success = self._is_success and solved
        if not part.is_gate:
            self._rewards.append((part.weight, reward))
        elif not solved:
            reasons["gate"] = "closed"
            self.is_closed, self._gate_reward = True, part.gate_reward

    def verdict(self) -> Verdict:
        """The weighted mean, or the reward of the gate that is closed."""
        if self.is_closed:
            return Verdict(reward=self._gate_reward, is_success=False, reasons=self._reasons)
        weight = sum(weight for weight, _ in self._rewards)
        # Gates alone: all of them are open.
        reward = sum(w * reward for w, reward in self._rewards) / weight if weight else 1.0
        is_success = self._is_success
        if self._success_at is not None:
            is_success = reward >= self._success_at
        return Verdict(reward=reward, is_success=is_success, reasons=self._reasons)


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


def _pair(judge: BaseJudge, given: Any) -> tuple[float, bool]:
    if not isinstance(given, tuple) or len(given) != 2 or isinstance(given[0], dict | list):
        raise EpisodeError(
            f"{type(judge).__name__} returned {given!r}; as a part of a combined judge it must "
            "return (reward, is_success) with one number"
        )
    reward = float(given[0])
    return reward, reward > 0 if given[1] is None else bool(given[1])
