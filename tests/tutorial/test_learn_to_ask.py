"""The learning-to-ask example.

1. The reward is `action * (1 + 2 * content) + format`; the action by rule, the rest by a model.
2. A judge that answers without valid scores fails the episode.
3. Both kinds of mistake are counted.
4. No case is in two splits, and the shipped cases are the generated ones.
5. The preprocessing of recorded conversations continues where it stopped.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ajet import Task
from ajet.errors import EpisodeError, ModelCallError
from tutorial.example_learn_to_ask import preprocess
from tutorial.example_learn_to_ask.ask_judge import read_scores
from tutorial.example_learn_to_ask.cases import NEEDED, QUESTIONS, Split, first_cases, main
from tutorial.example_learn_to_ask.scripted_judge import score
from tutorial.tiny_models.scripted_server import make_server

ROOT = Path(__file__).parents[2]
CONF = ROOT / "tutorial" / "example_learn_to_ask" / "learn_to_ask_cpu.yaml"
CASE = "patient (adult): I have a cough."
OPEN = Task(
    main_query=CASE,
    metadata={"decision_truth": "continue", "info_truth": ["fever", "duration"]},
)
CLOSED = Task(main_query=CASE, metadata={"decision_truth": "stop", "info_truth": []})
ASK = " ".join(QUESTIONS["fever"])
OTHER = " ".join(QUESTIONS["allergy"])


@pytest.fixture(scope="module")
def judge_url() -> Iterator[str]:
    """The scripted judge."""
    server = make_server(score, 0)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()


# 1. and 3. Rewards and mistakes


@pytest.mark.parametrize(
    ("task", "answer", "reward", "mistake"),
    [
        (OPEN, ASK, 4.0, None),
        (OPEN, QUESTIONS["fever"][0], 3.5, None),
        (OPEN, OTHER, 2.2, None),
        (OPEN, "Tell me more.", 1.0, None),
        (OPEN, f"{ASK} {OTHER}", 1.0, None),
        (OPEN, "<stop />", 0.0, "stopped_too_early"),
        (OPEN, "", 0.0, None),
        (OPEN, " \n", 0.0, None),
        (CLOSED, "", 0.0, None),
        (CLOSED, "<stop />", 4.0, None),
        (CLOSED, "I say <stop /> now", 0.0, None),
        (CLOSED, ASK, 1.0, "asked_too_long"),
        (CLOSED, "</answer><missing>fever</missing>", 0.0, "asked_too_long"),
    ],
)
def test_reward(
    judge_url: str, tmp_path: Path, task: Task, answer: str, reward: float, mistake: str | None
) -> None:
    episode = _episode(judge_url, tmp_path, task, answer)
    assert episode.failure is None
    assert episode.reward == pytest.approx(reward)
    assert episode.is_success == (reward >= 3.5)
    assert [name for name, value in episode.log_metrics.items() if value] == (
        [mistake] if mistake else []
    )


def _episode(url: str, tmp_path: Path, task: Task, answer: str) -> Any:
    pytest.importorskip("renderers")
    from tests.tutorial.models import run_example

    overrides = (f"task_judge.model.base_url={url}", f"ajet.experiment_dir={tmp_path}")
    return run_example(CONF, [answer], task=task, overrides=overrides)


# 2. A judge that fails


@pytest.mark.parametrize(
    "text",
    ["", "<content>1</content>", "<content>7</content><format>1</format>", "<content>.</content>"],
)
def test_scores_that_are_none(text: str) -> None:
    with pytest.raises(EpisodeError, match="the judge must give"):
        read_scores(text)


def test_a_judge_without_scores_fails_the_episode(tmp_path: Path) -> None:
    server = make_server(lambda messages: "Nice question!", 0)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    episode = _episode(url, tmp_path, OPEN, ASK)
    server.shutdown()
    assert episode.reward is None
    assert episode.failure.kind == "judge_error"
    assert "Nice question!" in episode.failure.message


# 4. Cases


def test_no_case_is_in_two_splits() -> None:
    keys = {
        split: {
            (case.complaint, frozenset(fact for fact, _ in case.known))
            for case in first_cases(split, 3000)
        }
        for split in Split
    }
    assert all(keys.values())
    assert not keys[Split.WARM_UP] & keys[Split.TRAIN]
    assert not keys[Split.WARM_UP] & keys[Split.VALIDATION]
    assert not keys[Split.TRAIN] & keys[Split.VALIDATION]


def test_missing_facts_are_needed_and_not_known() -> None:
    for case in first_cases(Split.TRAIN, 500):
        known = {fact for fact, _ in case.known}
        assert set(case.missing) == set(NEEDED[case.complaint]) - known


def test_the_shipped_cases_are_the_generated_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["cases", str(tmp_path)])
    main()
    for name in ("train.jsonl", "validation.jsonl"):
        assert (tmp_path / name).read_bytes() == (CONF.parent / "data" / name).read_bytes()


# 5. Preprocessing


def test_preprocessing_continues_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    is_broken = True

    def answer(messages: list[dict[str, Any]]) -> str:
        asked.append(messages[-1]["content"])
        if is_broken and len(asked) > 5:
            return "I am tired."
        return json.dumps({"facts": ["fever"] if "a fever?" in asked[-1] else []})

    dialogue = [
        {"role": "patient", "content": "I cough."},
        {"role": "doctor", "content": "Do you have a fever?"},
        {"role": "patient", "content": "No."},
        {"role": "doctor", "content": "Drink tea."},
    ]
    sessions, folder = tmp_path / "sessions.jsonl", tmp_path / "tasks"
    lines = [json.dumps({"session_id": n, "dialogue": dialogue}) + "\n" for n in range(30)]
    sessions.write_text("".join(lines))
    server = make_server(answer, 0)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    command = ["", str(sessions), str(folder), "--model", "m", "--base-url", url, "--workers", "1"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(ModelCallError):
        preprocess.main()
    facts = folder / "facts.jsonl"
    assert len(facts.read_text().splitlines()) == 5
    with facts.open("a") as file:
        file.write('{"key": "2-1", "fa')  # as a killed process leaves it
    is_broken = False
    asked.clear()
    preprocess.main()
    server.shutdown()
    assert len(asked) == 55
    assert len({json.loads(line)["key"] for line in facts.read_text().splitlines()}) == 60
    train, validation = (
        [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "validation")
    )
    assert len(train) + len(validation) == 60
    sessions_of = [{row["metadata"]["session_id"] for row in rows} for rows in (train, validation)]
    assert not sessions_of[0] & sessions_of[1]
    assert train[0]["main_query"] == "patient: I cough."
    assert [row["metadata"]["decision_truth"] for row in train[:2]] == ["continue", "stop"]
