"""Lockstep: what is computed does not depend on how fast the callers are.

1. Two runs whose callers take random times give the same ids and logprobs, to the last bit, and
   the same forward passes; also where sessions follow each other and have to queue for rows.
2. Negative control: without lockstep the same runs put different requests together.
3. A session that stays away is passed over after the patience, and counted.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import deque
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedModel

from ajet.engine.embedded.engine import EmbeddedEngine
from ajet.schema.episode import Generation, SamplingParams
from tests.torch.engine_fakes import with_engine
from tests.torch.small_model import VOCABULARY, small_model

NUM_EPISODES = 18
NUM_WORKERS = 8


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return small_model()


async def episode(engine: EmbeddedEngine, name: str, delays: random.Random) -> list[Generation]:
    """A few calls; everything but the delays is a function of the name."""
    rng = np.random.default_rng(int(name))
    ids = list(range(1, 41)) + rng.integers(1, VOCABULARY, 10).tolist()
    answers = []
    for _ in range(rng.integers(1, 5)):
        time.sleep(delays.random() * 0.01)
        params = SamplingParams(max_tokens=int(rng.integers(2, 15)))
        answer = await engine.generate(ids, params, session=name)
        answers.append(answer)
        ids = ids + answer.token_ids + rng.integers(1, VOCABULARY, rng.integers(1, 20)).tolist()
    return answers


def run_episodes(engine: EmbeddedEngine, jitter_seed: int) -> dict[str, list[Generation]]:
    """As a rollout does: each worker opens its next session before it closes the last."""
    names = deque(f"{number:03d}" for number in range(NUM_EPISODES))
    answers: dict[str, list[Generation]] = {}
    lock = threading.Lock()

    def work(name: str | None) -> None:
        delays = random.Random(f"{jitter_seed} {name}")
        while name is not None:
            answers[name] = asyncio.run(episode(engine, name, delays))
            time.sleep(delays.random() * 0.01)
            with lock:
                following = names.popleft() if names else None
                if following is not None:
                    engine.open_session(following)
            engine.close_session(name)
            name = following

    first = [names.popleft() for _ in range(NUM_WORKERS)]
    for name in first:
        engine.open_session(name)
    threads = [threading.Thread(target=work, args=(name,)) for name in first]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def run(
    model: PreTrainedModel, caplog: pytest.LogCaptureFixture, jitter_seed: int, **options: Any
) -> tuple[dict[str, list[Generation]], list[str]]:
    """The answers, and what went through the model in each pass."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG, logger="ajet.engine.embedded.model_runner"):

        async def use(engine: EmbeddedEngine) -> dict[str, list[Generation]]:
            answers = await asyncio.to_thread(run_episodes, engine, jitter_seed)
            assert engine.lockstep_missed == 0
            return answers

        answers = with_engine(model, use, **options)
    return answers, [record.message for record in caplog.records]


@pytest.mark.parametrize("max_num_seqs", [8, 5])
def test_lockstep_gives_the_same_bits_however_slow_the_callers(
    model: PreTrainedModel, caplog: pytest.LogCaptureFixture, max_num_seqs: int
) -> None:
    options = {"schedule": "lockstep", "max_num_seqs": max_num_seqs}
    answers, passes = run(model, caplog, 0, **options)
    assert len(answers) == NUM_EPISODES
    for jitter_seed in (1, 2):
        assert run(model, caplog, jitter_seed, **options) == (answers, passes)


def test_continuous_puts_together_what_happens_to_be_there(
    model: PreTrainedModel, caplog: pytest.LogCaptureFixture
) -> None:
    runs = [run(model, caplog, jitter_seed, schedule="continuous") for jitter_seed in range(3)]
    assert runs[0][1] != runs[1][1] or runs[0][1] != runs[2][1]
    # Each call has randomness of its own all the same, so that the tokens are mostly equal.
    tokens = [[a.token_ids for name in sorted(r) for a in r[name]] for r, _ in runs]
    assert tokens[0] == tokens[1] == tokens[2]


def test_a_session_that_stays_away_is_passed_over_and_counted(model: PreTrainedModel) -> None:
    async def use(engine: EmbeddedEngine) -> None:
        params = SamplingParams(max_tokens=3)
        started_s = time.monotonic()
        for name in ("here", "away"):
            engine.open_session(name)
        await engine.generate([1, 2], params, session="here")
        assert time.monotonic() - started_s >= 0.2
        assert engine.lockstep_missed == 1
        await engine.generate([1, 2], params, session="here")
        assert engine.lockstep_missed == 1
        await engine.generate([1, 2], params, session="away")

    with_engine(model, use, schedule="lockstep", lockstep_patience_s=0.2)
