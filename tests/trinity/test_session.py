"""What the main process makes of a run's messages, with Ray and stand-ins for Trinity's actors.

1. Steps, episodes, samples and evaluations are recorded under the names of every backbone.
2. The explorer waits until its weights are compared and evaluated.
3. A main process that stands still when the trainer ends misses none of its messages.
4. Weights that did not arrive, a failure anywhere, and an actor that dies end the run with a
   message; what was trained before is recorded.
5. A first step without a trained call ends the run with the reason. A target ends it as finished.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from rich.console import Console

from ajet.backbone.trinity.mailbox import (
    Arrived,
    Explored,
    Failed,
    Published,
    Trained,
    dumps,
    find_mailbox,
    open_mailbox,
)
from ajet.backbone.trinity.session import TrinitySession
from ajet.backbone.trinity.starting import Actors
from ajet.config.sections.trainer_common import StopAtConfig, TrainerCommonConfig
from ajet.errors import EngineError, TrainingError
from ajet.monitor.metrics_log import read_metrics
from ajet.monitor.progress import Progress
from ajet.monitor.records import Records
from ajet.monitor.run_record import read_processes, recorded
from ajet.schema.task import Task
from ajet.task_reader.task_batches import TaskBatches
from ajet.training.goals import Goals
from tests.make_samples import make_episode, make_group

pytestmark = [pytest.mark.trinity, pytest.mark.slow]

STEPS = 4
NAMESPACE = "session-test"
NO_TARGET = StopAtConfig()


def probe(version: int) -> list[float]:
    return [-1.0 - version, -2.0]


class Trainer:
    """Sends the messages of a trainer on policy; at step 3 something may happen."""

    def __init__(self, at_3: str) -> None:
        self.at_3 = at_3
        self.stopped = False
        self.episodes = [make_episode(name, reward) for name, reward in (("a", 1.0), ("b", 0.0))]
        if at_3 == "untrained calls":
            for episode in self.episodes:
                episode.calls[0].trained = False
        elif at_3 == "no calls":
            for episode in self.episodes:
                episode.calls.clear()
                episode.samples.clear()

    def tell(self, message: object) -> None:
        ray.get(find_mailbox(NAMESPACE).report.remote(dumps(message)))

    def sync_weight(self) -> None:
        self.tell(Published(version=0, probe=probe(0)))

    def stop(self) -> None:
        self.stopped = True

    def train(self) -> None:
        for step in range(1, STEPS + 1):
            leave = find_mailbox(NAMESPACE).wait_for_release.remote(step - 1)
            while not ray.wait([leave], timeout=0.1)[0]:
                if self.stopped:
                    return
            if step == 3 and self.at_3 == "raise":
                raise TrainingError("nan")
            if step == 3 and self.at_3 == "die":
                ray.actor.exit_actor()
            if step == STEPS and self.at_3 == "a pause before the last step":
                time.sleep(0.5)  # longer than the main process waits for a message
            self.tell(Published(version=step, probe=probe(step)))
            group = make_group(
                *(replace(e, episode_id=f"{step}{e.episode_id}") for e in self.episodes)
            )
            self.tell(
                Trained(
                    step=step,
                    groups=[group],
                    stale=[make_group(make_episode(f"{step}c", 1.0))] if step == 2 else [],
                    results=[],
                    metrics={"reward/mean": 0.5, "time/step_s": 1.0},
                    num_samples=2,
                    num_stale_samples=int(step == 2),
                )
            )


class Explorer:
    """Takes each version in turn; at version 3 something may happen."""

    def __init__(self, at_3: str) -> None:
        self.at_3 = at_3

    def arrive(self, version: int) -> None:
        mailbox = find_mailbox(NAMESPACE)
        served = probe(version - 1 if version == 3 and self.at_3 == "old weights" else version)
        ray.get(mailbox.report.remote(dumps(Arrived(version=version, probes=[served]))))
        ray.get(mailbox.wait_for_release.remote(version))

    def sync_weight(self) -> None:
        self.arrive(0)

    def explore(self) -> None:
        mailbox = find_mailbox(NAMESPACE)
        for step in range(1, STEPS + 1):
            if step == 3 and self.at_3 == "fail":
                ray.get(mailbox.report.remote(dumps(Failed(reason="no episode works"))))
            count = 0.0 if step == 3 and self.at_3 in ("no groups", "no engine") else 1.0
            metrics = {
                "experience_pipeline/experience_count": count,
                "experience_pipeline/samples": 3.0,
                "rollout/finished_task_count": 1.0,
            }
            ray.get(mailbox.report.remote(dumps(Explored(step=step, metrics=metrics))))
            self.arrive(step)


class Engine:
    """Of Trinity's models only this is asked."""

    def get_model_version(self) -> int:
        return 2


class Evaluation:
    def __init__(self) -> None:
        self.steps: list[int] = []

    def waiting(self) -> list[object]:
        return []

    def run(self, step: int) -> dict[str, float]:
        self.steps.append(step)
        return {"eval/success_rate": step / 10}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, address="local")
    yield
    ray.shutdown()


def session_of(folder: Path, at_3: str = "", stop_at: StopAtConfig = NO_TARGET) -> TrinitySession:
    common = SimpleNamespace(
        logprob_diff_bound=1e-3, test_freq=2, val_before_train=True, logger=["console"]
    )
    ajet = SimpleNamespace(
        trainer_common=common,
        data=SimpleNamespace(train_batch_size=1),
        context_tracker=SimpleNamespace(detect_timeline_snap=True),
        rollout=SimpleNamespace(vllm=SimpleNamespace(update_timeout_s=10.0)),
    )
    engine = ray.remote(Engine).remote()
    ray.get(engine.get_model_version.remote())
    if at_3 == "no engine":
        ray.kill(engine)
    context = SimpleNamespace(ajet=ajet, total_steps=STEPS, run_folder=folder, is_exact=True)
    return TrinitySession(
        context=context,
        actors=Actors(
            mailbox=open_mailbox(NAMESPACE),
            explorer=ray.remote(Explorer).remote(at_3),
            trainer=ray.remote(Trainer).options(max_concurrency=2).remote(at_3),
            models=[engine],
        ),
        evaluation=Evaluation(),
        records=Records(folder, SimpleNamespace(ajet=ajet), resumed_step=None),
        progress=Progress(Console(quiet=True)),
        batches=TaskBatches([Task(task_id="t0")], seed=0, shuffle=False),
        goals=Goals(TrainerCommonConfig(stop_at=stop_at), folder, validates=True),
        step=0,
    )


def run(session: TrinitySession, folder: Path) -> None:
    try:
        with recorded(folder, ["test"]):
            session.run()
    finally:
        ray.kill(session.actors.mailbox)


def test_steps_and_evaluations_are_recorded_and_what_became_of_the_samples(cluster, tmp_path):
    session = session_of(tmp_path)
    run(session, tmp_path)
    assert session.evaluation.steps == [0, 2, 4]
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line.get("eval/success_rate") for line in lines] == [0.0, None, 0.2, None, 0.4]
    assert all(line["sync/probe_diff_max"] == 0 for line in lines)
    assert all(line["reward/mean"] == 0.5 for line in lines[1:])
    episodes = [json.loads(line) for line in (tmp_path / "episodes.jsonl").open()]
    assert [e["step"] for e in episodes] == [1, 1, 2, 2, 2, 3, 3, 4, 4]
    facts = read_processes(tmp_path)[-1]["trinity"]
    assert facts["steps asked"] == facts["steps made"] == facts["version served"] == STEPS
    assert facts["samples trained"] == 8 and facts["samples stale"] == 1
    assert facts["samples left in the buffer"] == 3


def test_what_the_trainer_sends_before_it_ends_is_read(cluster, tmp_path, monkeypatch):
    def late(*args, **kwargs):
        time.sleep(1.5)  # as while the main process is stopped; meanwhile the trainer ends
        return wait(*args, **kwargs)

    wait = ray.wait
    monkeypatch.setattr(ray, "wait", late)
    run(session_of(tmp_path, "a pause before the last step"), tmp_path)
    assert read_processes(tmp_path)[-1]["trinity"]["steps made"] == STEPS


@pytest.mark.parametrize(
    ("at_3", "error", "message"),
    [
        ("raise", TrainingError, "nan"),
        ("die", TrainingError, "ended"),
        ("old weights", EngineError, "before the update"),
        ("fail", TrainingError, "no episode works"),
        ("no groups", TrainingError, "0 of 1 groups"),
        ("no engine", TrainingError, "process of .*Engine|actor"),
    ],
)
def test_a_fault_ends_the_run_and_what_was_trained_is_recorded(
    cluster, tmp_path, at_3, error, message
):
    session = session_of(tmp_path, at_3)
    with pytest.raises(error, match=message):
        run(session, tmp_path)
    facts = read_processes(tmp_path)[-1]["trinity"]
    assert 2 <= facts["steps made"] <= STEPS
    steps = {line["step"] for line in read_metrics(tmp_path)}
    assert steps == set(range(facts["steps made"] + 1))


@pytest.mark.parametrize(
    ("calls", "reason"),
    [("untrained calls", "none of the 2 calls is trained"), ("no calls", "no call through the")],
)
def test_a_run_that_trains_no_call_ends_after_its_first_step(cluster, tmp_path, calls, reason):
    with pytest.raises(TrainingError, match=f"nothing can be trained: .*{reason}"):
        run(session_of(tmp_path, calls), tmp_path)
    assert 1 in {line["step"] for line in read_metrics(tmp_path)}


def test_a_target_ends_the_run(cluster, tmp_path):
    target = StopAtConfig(metric="eval/success_rate", value=0.2)
    run(session_of(tmp_path, stop_at=target), tmp_path)
    process = read_processes(tmp_path)[-1]
    assert process["outcome"] == "finished"
    assert 2 <= process["trinity"]["steps made"] < STEPS
