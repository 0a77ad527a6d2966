"""How a training run ends, and what it has saved then.

1. Whatever ends it, finished steps are saved: Ctrl-C, an error of ours, any other error.
2. An update that has begun and not ended is not saved.
3. Ctrl-C while a checkpoint is written waits for it, however often it comes.
4. A run whose last step is saved is finished, even if it was interrupted then.
5. What ended the run is what the user is told, even if saving fails as well.
"""

from __future__ import annotations

import logging
import signal
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

    run = FakeRun(tmp_path, {"save_freq": 2}, on_save=interrupt)
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
