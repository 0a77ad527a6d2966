"""Group judges, and what happens while episodes are judged.

1. A group judge is called once for each complete group, with the outputs that wait for a reward, in
   order; failed episodes and those with a reward are not among them.
2. It may block or be a coroutine, and judges while other episodes run.
3. What it raises, or an answer that does not fit, makes failed episodes, and above the allowed
   share the run stops with the judge's words. One that never answers makes failed episodes in time.
4. A judge sees the trajectory; its reasons are in the episode's metadata.
5. While an episode is judged, another one has its place, and the sessions of the engine change in
   an order that does not depend on the judge's speed. A judge that asks the policy keeps the place.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from ajet import Workflow, WorkflowOutput
from ajet.errors import TrainingError
from ajet.schema.episode import Episode, Group
from ajet.schema.task import WorkflowTask
from ajet.task_judge.base_judge import BaseGroupJudge, BaseJudge
from ajet.task_rollout import group_judging
from ajet.task_rollout.group_judging import GroupJudging
from ajet.task_rollout.rollout import Rollout
from tests.unit.episode_fakes import ANSWER, FakeEngine, ask, assert_failed, runner_of, tasks_of

pytestmark = pytest.mark.filterwarnings("error")


class Counts(Workflow):
    """Returns a number that is different in each episode of a group."""

    async def execute(self, workflow_task: WorkflowTask, tuner: Any) -> WorkflowOutput:
        await ask(tuner, text=workflow_task.task.main_query)
        return self.output(workflow_task)

    def output(self, workflow_task: WorkflowTask) -> WorkflowOutput:
        return WorkflowOutput(metadata={"answer": workflow_task.episode_uuid})


class Ranks(BaseGroupJudge):
    """The later an output is in the list, the better."""

    def __init__(self) -> None:
        super().__init__(None)
        self.seen: list[tuple[WorkflowTask, list[WorkflowOutput]]] = []
        self.lock = threading.Lock()

    def compute_rewards(
        self, workflow_task: WorkflowTask, workflow_outputs: Sequence[WorkflowOutput]
    ) -> Any:
        with self.lock:
            self.seen.append((workflow_task, list(workflow_outputs)))
        for output in workflow_outputs:
            output.metadata["judge"] = {"words": "ranked"}
        return [(float(place), place > 1) for place in range(len(workflow_outputs))]


class RanksLater(Ranks):
    async def compute_rewards(self, workflow_task: Any, workflow_outputs: Any) -> Any:
        await asyncio.sleep(0.01)
        return super().compute_rewards(workflow_task, workflow_outputs)


def run(
    judge: BaseGroupJudge | BaseJudge,
    workflow: type[Workflow] = Counts,
    *,
    num_tasks: int = 2,
    num_repeat: int = 4,
    engine: FakeEngine | None = None,
    done: list[Episode] | None = None,
    **limits: Any,
) -> list[Group]:
    rollout = Rollout(runner=runner_of(workflow, judge=judge, engine=engine), seed=0, **limits)  # type: ignore[arg-type]
    keep = (lambda _: None) if done is None else done.append
    return rollout.run(
        tasks_of(num_tasks), num_repeat=num_repeat, tag="train/000001", on_episode_done=keep
    )


@pytest.mark.parametrize("judge_class", [Ranks, RanksLater])
def test_a_group_judge_is_called_once_for_each_complete_group(judge_class):
    judge, done = judge_class(), []
    groups = run(judge, done=done)
    assert len(judge.seen) == 2
    for group in groups:
        assert [episode.reward for episode in group.episodes] == [0, 1, 2, 3]
        assert [episode.is_success for episode in group.episodes] == [False, False, True, True]
        assert [episode.repeat_index for episode in group.episodes] == [0, 1, 2, 3]
        for episode in group.episodes:
            assert episode.metadata["judge"] == {"words": "ranked"}
            assert episode.call_rewards is not None
            assert episode.call_rewards.tolist() == [episode.reward]
            assert episode.samples and episode.judge_s is not None
    for workflow_task, outputs in judge.seen:
        (group,) = [g for g in groups if g.task.task_id == workflow_task.task_id]
        assert [o.metadata["answer"] for o in outputs] == [e.episode_id for e in group.episodes]
        assert workflow_task.task_tag == "train/000001"
        (conversation,) = outputs[0].trajectory
        assert conversation.messages[0]["content"] == group.task.main_query
        assert conversation.messages[-1]["content"] == ANSWER.decode()
    assert sorted(e.episode_id for e in done) == sorted(
        e.episode_id for g in groups for e in g.episodes
    )


class SomeFail(Counts):
    async def execute(self, workflow_task: WorkflowTask, tuner: Any) -> WorkflowOutput:
        output = await super().execute(workflow_task, tuner)
        with LOCK:
            NUMBERS.append(len(NUMBERS))
            number = NUMBERS[-1] % 4
        if number == 0:
            raise RuntimeError("lost my way")
        if number == 1:
            return WorkflowOutput(reward=7.0)
        return output


LOCK, NUMBERS = threading.Lock(), list[int]()


def test_failed_episodes_and_those_with_a_reward_are_not_judged():
    NUMBERS.clear()
    judge = Ranks()
    (group,) = run(judge, SomeFail, num_tasks=1, max_env_worker=1)
    failed, rewarded, *judged = group.episodes
    assert_failed(failed, "workflow_error", "lost my way")
    assert (rewarded.reward, rewarded.judge_s) == (7.0, None)
    assert [episode.reward for episode in judged] == [0, 1]
    assert [len(outputs) for _, outputs in judge.seen] == [2]


class Never(Workflow):
    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        raise RuntimeError("lost my way")


def test_a_group_without_a_valid_episode_is_not_judged():
    judge = Ranks()
    run(judge, Never, max_failure_share=1.0)
    assert judge.seen == []


class Gives(BaseGroupJudge):
    def __init__(self, given: Any) -> None:
        super().__init__(None)
        self.given = given

    def compute_rewards(self, workflow_task: Any, workflow_outputs: Any) -> Any:
        if isinstance(self.given, BaseException):
            raise self.given
        return self.given


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (ValueError("the judge's own words"), "the judge's own words"),
        (SystemExit(3), "SystemExit"),
        ([(1.0, True)], "for 2 episodes"),
        (None, "the judge returned None"),
        ([(1.0, True), 0.5], "the judge returned 0.5"),
        ([(1.0, True), (float("nan"), True)], "finite"),
    ],
)
def test_what_does_not_fit_makes_failed_episodes(given, words):
    (group,) = run(Gives(given), num_tasks=1, num_repeat=2, max_failure_share=1.0)
    for episode in group.episodes:
        assert_failed(episode, "judge_error", words)


def test_above_the_allowed_share_the_run_stops_with_the_judges_words():
    with pytest.raises(TrainingError, match=r"8 x judge_error: ValueError: no more credit"):
        run(Gives(ValueError("no more credit")))


class JudgesClock:
    """The time of the limit on judges, which passes when a judge says so."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.time = time.time

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def judges_clock(monkeypatch: pytest.MonkeyPatch) -> JudgesClock:
    clock = JudgesClock()
    monkeypatch.setattr(group_judging, "time", clock)
    return clock


@pytest.fixture
def end() -> Iterator[threading.Event]:
    """Set when the test has ended."""
    event = threading.Event()
    yield event
    event.set()


class Hangs(BaseGroupJudge):
    def __init__(self, clock: JudgesClock, end: threading.Event) -> None:
        super().__init__(None)
        self.clock, self.end = clock, end

    def compute_rewards(self, workflow_task: Any, workflow_outputs: Any) -> Any:
        self.clock.now_s += 31
        self.end.wait()
        return [(1.0, True)] * len(workflow_outputs)


def test_a_judge_that_never_answers_is_given_up(judges_clock, end):
    judge = Hangs(judges_clock, end)
    groups = run(judge, num_repeat=2, max_failure_share=1.0, episode_timeout_s=30)
    for group in groups:
        for episode in group.episodes:
            assert_failed(episode, "judge_error", "no verdict within 30 s")


def test_groups_are_judged_while_others_run():
    """The judge of the first group waits for the workflow of the last one."""
    last_one_runs = threading.Event()

    class Notes(Counts):
        def output(self, workflow_task: WorkflowTask) -> WorkflowOutput:
            if workflow_task.task_id == "t1":
                last_one_runs.set()
            return super().output(workflow_task)

    class Waits(Ranks):
        def compute_rewards(self, workflow_task: Any, workflow_outputs: Any) -> Any:
            assert last_one_runs.wait(60)
            return super().compute_rewards(workflow_task, workflow_outputs)

    groups = run(Waits(), Notes, max_env_worker=1, num_repeat=1)
    assert [episode.reward for group in groups for episode in group.episodes] == [0, 0]


class Slow(BaseJudge):
    seconds = 0.0

    def compute_reward(self, workflow_task: Any, workflow_output: Any) -> Any:
        time.sleep(self.seconds)
        assert workflow_output.trajectory[0].messages[-1]["content"] == ANSWER.decode()
        return 1.0, True


class Together(BaseJudge):
    """Answers when all 16 episodes are with the judge."""

    def __init__(self) -> None:
        super().__init__(None)
        self.all_are_here = threading.Barrier(16)

    def compute_reward(self, workflow_task: Any, workflow_output: Any) -> Any:
        self.all_are_here.wait(60)
        return 1.0, True


class TogetherAsync(BaseJudge):
    def __init__(self) -> None:
        super().__init__(None)
        self.num_here = 0

    async def compute_reward(self, workflow_task: Any, workflow_output: Any) -> Any:
        self.num_here += 1
        async with asyncio.timeout(60):
            while self.num_here < 16:
                await asyncio.sleep(0.01)
        return 1.0, True


@pytest.mark.parametrize("judge_class", [Together, TogetherAsync])
def test_another_episode_has_the_place_of_one_that_is_judged(judge_class):
    groups = run(judge_class(), num_tasks=16, num_repeat=1, max_env_worker=1)
    assert all(episode.reward == 1 for group in groups for episode in group.episodes)


def sessions(judge: BaseJudge) -> list[str]:
    engine = FakeEngine()
    run(judge, num_tasks=8, num_repeat=1, max_env_worker=1, engine=engine)
    return engine.events


def test_the_order_of_sessions_does_not_depend_on_the_judges_speed(monkeypatch):
    fast = sessions(Slow(None))
    monkeypatch.setattr(Slow, "seconds", 0.1)
    assert sessions(Slow(None)) == fast
    starts = [event for event in fast if event[0] == "+"]
    # The next session is open before the last one is closed.
    assert [event[0] for event in fast] == list("+" + "+-" * 7 + "-")
    assert len(set(starts)) == 8


def test_a_judge_that_asks_the_policy_keeps_the_place():
    now: list[int] = []
    most: list[int] = []

    class AsksThePolicy(BaseJudge):
        holds_place = True

        def compute_reward(self, workflow_task: Any, workflow_output: Any) -> Any:
            now.append(1)
            most.append(len(now))
            time.sleep(0.02)
            now.pop()
            return 1.0, True

    run(AsksThePolicy(None), num_tasks=6, num_repeat=1, max_env_worker=2)
    assert max(most) <= 2


def test_beyond_a_limit_judged_episodes_keep_their_places(monkeypatch):
    monkeypatch.setattr(Slow, "seconds", 0.05)
    monkeypatch.setattr("ajet.task_rollout.workers.MAX_JUDGED", 2)
    now: list[int] = []
    most: list[int] = []

    class Noted(Counts):
        async def execute(self, workflow_task: WorkflowTask, tuner: Any) -> WorkflowOutput:
            now.append(1)
            return await super().execute(workflow_task, tuner)

    class Counted(Slow):
        def compute_reward(self, workflow_task: Any, workflow_output: Any) -> Any:
            most.append(len(now))
            verdict = super().compute_reward(workflow_task, workflow_output)
            now.pop()
            return verdict

    groups = run(Counted(None), Noted, num_tasks=12, num_repeat=1, max_env_worker=2)
    assert len(groups) == 12 and max(most) <= 4


def test_an_episode_that_is_judged_still_has_its_deadline(monkeypatch):
    monkeypatch.setattr("ajet.task_rollout.workers.GRACE_S", 0.1)

    class Stuck(BaseJudge):
        async def compute_reward(self, workflow_task: Any, workflow_output: Any) -> Any:
            await asyncio.sleep(60)

    (group,) = run(
        Stuck(None), num_tasks=1, num_repeat=2, episode_timeout_s=0.3, max_failure_share=1.0
    )
    for episode in group.episodes:
        assert_failed(episode, "timeout")


def test_a_group_judge_has_a_limit_of_threads_at_work(monkeypatch):
    monkeypatch.setattr(group_judging, "MAX_GROUPS", 2)
    judge = RanksLater()
    run(judge, num_tasks=10, num_repeat=1)
    assert len(judge.seen) == 10


class SlowComparison(BaseGroupJudge):
    """Takes 13 of 30 seconds; with the first group it never ends."""

    def __init__(self, clock: JudgesClock, end: threading.Event, *, hangs: bool) -> None:
        super().__init__(None)
        self.clock, self.end, self.hangs = clock, end, hangs
        self.num_started = 0
        self.is_first = True

    def compute_rewards(self, workflow_task: Any, workflow_outputs: Any) -> Any:
        is_endless, self.is_first = self.is_first and self.hangs, False
        while self.num_started < 3:
            time.sleep(0.01)
        self.clock.now_s += 31 if is_endless else 13
        self.end.wait(None if is_endless else 0.1)  # in which late groups are looked for
        return [(1.0, True)] * len(workflow_outputs)


@pytest.mark.parametrize("hangs", [False, True])
def test_a_group_that_waits_for_others_is_not_late(monkeypatch, judges_clock, end, hangs):
    monkeypatch.setattr(group_judging, "MAX_GROUPS", 1)
    monkeypatch.setattr(group_judging, "LOOK_S", 0.01)
    judge, start = SlowComparison(judges_clock, end, hangs=hangs), GroupJudging.start

    def started(judging: GroupJudging, group: Group) -> None:
        start(judging, group)
        judge.num_started += 1

    monkeypatch.setattr(GroupJudging, "start", started)
    groups = run(
        judge,
        num_tasks=3,
        num_repeat=1,
        max_failure_share=1.0,
        episode_timeout_s=30,
    )
    failures = [episode.failure for group in groups for episode in group.episodes]
    assert sum(failure is not None for failure in failures) == hangs
