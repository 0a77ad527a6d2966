"""How a training run ends, and what it has saved then.

1. Whatever ends it, finished steps are saved: Ctrl-C, an error of ours, any other error.
2. An update that has begun and not ended is not saved.
3. Ctrl-C while a checkpoint is written waits for it, however often it comes.
4. A run whose last step is saved is finished, even if it was interrupted then.
5. The best checkpoint is kept and named; it is written where only an evaluation was due.
6. A run ends at its target, after an evaluation, and stays ended when it is resumed.
7. What ended the run is what the user is told, even if saving fails as well.
8. What lives as long as the run is left out of garbage collection until the run ends.
"""

from __future__ import annotations

import gc
import logging
import signal
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from ajet.errors import CheckpointError, EngineError
from tests.unit.loop_fakes import FakeRun


def raise_at(step: int, error: BaseException) -> Callable[[int], None]:
    def act(now: int) -> None:
        if now == step:
            raise error

    return act


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), EngineError("x"), OverflowError("x"), MemoryError(), SystemExit()],
)
def test_whatever_ends_a_run_finished_steps_are_saved(
    tmp_path: Path, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    run = FakeRun(tmp_path, on_rollout=raise_at(3, error))
    with pytest.raises(type(error)):
        run.loop().run()
    assert run.kept == [2]
    says_so = "step 2 is saved; --resume continues after it" in caplog.text
    assert says_so is not isinstance(error, KeyboardInterrupt | EngineError)


def test_an_update_that_did_not_end_is_not_saved(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, on_update=raise_at(3, OverflowError("x")))
    with pytest.raises(OverflowError):
        run.loop().run()
    assert run.kept == []


def test_an_update_that_failed_before_it_changed_the_weights_loses_nothing(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, before_update=raise_at(3, MemoryError()))
    with pytest.raises(MemoryError):
        run.loop().run()
    assert run.kept == [2]


def test_a_step_whose_metrics_cannot_be_written_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FakeRun(tmp_path)
    loop = run.loop()
    fail = raise_at(2, OverflowError("too large"))
    monkeypatch.setattr(loop.records, "write_metrics", lambda step, metrics: fail(step))
    with pytest.raises(OverflowError):
        loop.run()
    assert run.kept == [2]


@pytest.mark.parametrize("times", [1, 3])
def test_ctrl_c_in_a_checkpoint_waits_for_it(
    tmp_path: Path, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupt(_: Path) -> None:
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)

    run = FakeRun(tmp_path, {"save_freq": 2, "test_freq": None}, on_save=interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.loop().run()
    assert run.kept == run.saved == [2]
    assert ("the run ends as soon as the checkpoint is written" in caplog.text) is (times > 1)


def test_a_run_that_was_interrupted_in_its_last_checkpoint_is_finished(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, on_save=lambda _: signal.raise_signal(signal.SIGINT))
    run.loop().run()
    assert run.kept == [4]


def test_a_run_that_was_interrupted_in_its_last_evaluation_owes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FakeRun(tmp_path, {"test_freq": None}, evaluations={4: 0.9})
    loop = run.loop()
    interrupt = raise_at(4, KeyboardInterrupt())
    monkeypatch.setattr(loop.phases, "validate", lambda tasks, step: interrupt(step))
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert run.kept == [4]
    run.loop(resumed_step=4).run()
    assert run.metrics[-1]["step"] == 4
    assert run.metrics[-1]["eval/success_rate"] == 0.9


def test_a_resumed_run_says_how_many_steps_run_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = FakeRun(tmp_path)
    run.loop().run()
    with caplog.at_level("INFO"):
        run.loop(resumed_step=3)
        run.loop(resumed_step=3)
    assert caplog.text.count("steps that run again after the checkpoint of step 3: 1") == 1


def test_what_ended_the_run_is_told_even_if_saving_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: Path) -> None:
        raise OSError("no space")

    run = FakeRun(tmp_path, on_rollout=raise_at(3, EngineError("the engine died")), on_save=full)
    with pytest.raises(EngineError, match="the engine died"), caplog.at_level(logging.ERROR):
        run.loop().run()
    assert "the checkpoint cannot be written: no space" in caplog.text


def test_a_checkpoint_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    def full(_: Path) -> None:
        raise OSError("no space")

    run = FakeRun(tmp_path, {"save_freq": 1}, on_save=full)
    with pytest.raises(CheckpointError, match="no space"):
        run.loop().run()


def test_the_best_checkpoint_is_kept_and_named(tmp_path: Path) -> None:
    results = {1: 0.2, 2: 0.9, 3: 0.5, 4: 0.9, 5: 0.4, 6: 0.1}
    common = {"save_freq": 2, "max_checkpoints_to_keep": 1}
    run = FakeRun(tmp_path, common, steps=6, evaluations=results)
    run.loop().run()
    assert run.kept == [2, 6]
    assert (tmp_path / "best_checkpoint").resolve() == run.checkpoints / "step_000002"
    assert (tmp_path / "best_checkpoint" / "weights").read_text() == "2"


def test_a_step_that_is_the_best_so_far_gets_a_checkpoint_until_a_better_one_comes(
    tmp_path: Path,
) -> None:
    results = {1: 0.2, 2: 0.1, 3: 0.6, 4: 0.1, 5: 0.8, 6: 0.3}
    run = FakeRun(tmp_path, {"save_freq": 4}, steps=6, evaluations=results)
    run.loop().run()
    assert run.saved == [1, 3, 4, 5, 6]
    assert run.kept == [4, 5, 6]
    assert (tmp_path / "best_checkpoint").resolve().name == "step_000005"


def test_without_save_freq_nothing_is_written_before_the_end(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, evaluations={1: 0.9})
    run.loop().run()
    assert run.saved == [4]
    assert (tmp_path / "best_checkpoint").resolve().name == "step_000004"


def test_another_best_metric_never_deletes_the_latest_checkpoint(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, {"save_freq": 3, "max_checkpoints_to_keep": 9})
    run.evaluations = {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}
    run.loop().run()
    assert run.kept == [3, 4]
    run.common["best_metric"] = "policy/loss"  # equal in all steps: the first one is the best
    run.loop(resumed_step=4).run()
    assert run.kept == [3, 4]
    assert (tmp_path / "best_checkpoint").resolve().name == "step_000003"


def test_without_a_best_metric_no_checkpoint_is_the_best(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, {"save_freq": 2, "best_metric": None}, evaluations={1: 0.9})
    run.loop().run()
    assert run.saved == [2, 4]
    assert not (tmp_path / "best_checkpoint").is_symlink()


def test_a_link_that_names_no_checkpoint_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "best_checkpoint").symlink_to("checkpoints/none")
    run = FakeRun(tmp_path, evaluations={4: 0.9})
    run.loop().run()
    assert (tmp_path / "best_checkpoint").resolve().name == "step_000004"


def test_a_resumed_run_knows_the_best_step_of_its_past(tmp_path: Path) -> None:
    common = {"save_freq": 1, "max_checkpoints_to_keep": 1}
    run = FakeRun(tmp_path, common, evaluations={1: 0.9}, on_rollout=raise_at(3, MemoryError()))
    with pytest.raises(MemoryError):
        run.loop().run()
    run.on_rollout = lambda step: None
    run.loop(resumed_step=2).run()
    assert run.kept == [1, 4]
    assert (tmp_path / "best_checkpoint").resolve().name == "step_000001"


@pytest.mark.parametrize(
    ("metric", "value", "last"),
    [("eval/success_rate", 0.7, 2), ("reward/mean", 0.5, 1), ("eval/success_rate", 0.99, 4)],
)
def test_a_run_ends_at_its_target(tmp_path: Path, metric: str, value: float, last: int) -> None:
    common = {"stop_at": {"metric": metric, "value": value}, "test_freq": 2}
    run = FakeRun(tmp_path, common, evaluations={2: 0.7})
    run.loop().run()
    assert [line["step"] for line in run.metrics] == list(range(1, last + 1))
    assert "eval/success_rate" in run.metrics[-1]
    assert run.kept == [last]
    run.loop(resumed_step=last).run()
    assert run.metrics[-1]["step"] == last


def test_a_metric_that_does_not_exist_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    common = {"stop_at": {"metric": "eval/succes_rate", "value": 1.0}, "best_metric": "eval/reward"}
    FakeRun(tmp_path, common).loop().run()
    told = [record.message for record in caplog.records]
    assert told == [
        'trainer_common.stop_at: this run has no metric "eval/succes_rate", so all steps are '
        'trained; did you mean "eval/success_rate"?',
        'trainer_common.best_metric: this run has no metric "eval/reward", so no checkpoint '
        'is the best one; did you mean "eval/reward_mean"?',
    ]


def test_the_learning_rate_is_a_metric(tmp_path: Path) -> None:
    optim = {"lr": 0.5, "lr_schedule": "linear", "lr_min_ratio": 0.1, "warmup_steps": 1}
    run = FakeRun(tmp_path, {"optim": optim})
    run.loop().run()
    rates = [line["policy/lr"] for line in run.metrics]
    assert rates == pytest.approx([0.5, 0.5, 0.275, 0.05])


def test_what_lives_as_long_as_the_run_is_left_out_of_garbage_collection(tmp_path: Path) -> None:
    frozen: list[int] = []
    FakeRun(tmp_path, on_rollout=lambda _: frozen.append(gc.get_freeze_count())).loop().run()
    assert frozen[0] == 0 and all(count > 10_000 for count in frozen[1:]) and len(frozen) > 2
    assert gc.get_freeze_count() == 0


class _Cycle:
    """Garbage that only a collection of old objects finds."""

    def __init__(self) -> None:
        self.itself = self


def test_cycles_that_have_become_old_are_collected_in_time(tmp_path: Path) -> None:
    """A quarter of the million old objects of this test would have to come first without it."""
    old: list[list[int]] = [[] for _ in range(1_000_000)]
    new: list[list[list[int]]] = []
    died_at: list[int] = []

    def work(_: object) -> None:
        if gc.get_freeze_count() and not new:
            cycle = _Cycle()
            weakref.finalize(cycle, lambda: died_at.append(len(new)))
            gc.collect(1)  # it is old now
            del cycle
            new.extend([[] for _ in range(1000)] for _ in range(100))

    FakeRun(tmp_path, on_rollout=work).loop().run()
    assert len(old) == 1_000_000 and len(new) == 100
    assert died_at and died_at[0] < 100
