"""What the page is told, against what the run's writers were given.

1. Numbers of tokens are those of the Parquet file, to the last bit of float32.
2. Filters, order, pages and search select exactly the episodes that fit.
3. What a run adds is there at the next question.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from ajet.monitor.rollout_store import read_rollouts, rollout_path

EPISODE = {"step": 2, "episode": "e-2-task-1-1"}


def test_the_list_of_runs_says_how_each_stands(get):
    (run,) = get("runs")["runs"]
    assert (run["name"], run["status"], run["last_step"]) == ("demo", "finished", 3)
    assert run["metrics"]["reward/mean"] == [0.5, 0.5]


def test_a_run_has_its_steps_failures_and_settings(get):
    run = get("run")
    assert [(row["step"], row["count"], row["failed"]) for row in run["steps"]] == [
        (step, 8, 2) for step in (1, 2, 3)
    ]
    assert run["causes"] == [
        {"outcome": "workflow_error", "cause": "ValueError: no", "count": 6, "last_step": 3}
    ]
    assert run["settings"]["ajet.trainer_common.optim.lr"] == 1e-4
    assert set(run["agents"]) == {"solver", "critic"}
    assert run["missing"] == []


def test_metrics_are_columns_over_steps(get):
    metrics = get("metrics")
    assert metrics["steps"] == [1, 2, 3]
    assert metrics["columns"]["policy/loss"] == [-0.1, -0.05, -0.1 / 3]


@pytest.mark.parametrize(
    ("filters", "total"),
    [
        ({}, 24),
        ({"step": 2}, 8),
        ({"step": 2, "task_id": "task-1"}, 4),
        ({"success": "yes"}, 6),
        ({"success": "unknown"}, 6),
        ({"failed": "yes"}, 6),
        ({"failed": "no", "max_reward": 0.5}, 12),
        ({"min_reward": 0.25, "max_reward": 0.75}, 6),
        ({"outcome": "workflow_error", "step": 1}, 2),
        ({"agent": "critic"}, 18),
        ({"agent": "crit"}, 0),
        ({"min_length": 50}, 18),
        ({"phase": "eval"}, 0),
        ({"text": "forty-TWO", "step": 1}, 6),
        ({"text": "no such words"}, 0),
        ({"text": "ValueError"}, 6),
        ({"text": "100%"}, 0),
    ],
)
def test_filters_select_what_fits(get, filters, total):
    page = get("episodes", **filters)
    assert page["total"] == total
    assert len(page["rows"]) == min(total, 50)


def test_pages_in_order_hold_every_episode_once(get):
    rows = [
        row
        for at in range(0, 24, 7)
        for row in get("episodes", sort="reward", order="asc", offset=at, limit=7)["rows"]
    ]
    rewards = [row["reward"] for row in rows]
    assert len({row["episode_id"] for row in rows}) == 24
    assert rewards == sorted(rewards[:18]) + [None] * 6


@pytest.mark.parametrize(
    "wrong",
    [{"step": "two"}, {"sort": "reward; DROP"}, {"success": "maybe"}, {"step": "9" * 30}],
)
def test_a_wrong_filter_is_refused(client, wrong):
    response = client.get("/api/episodes", params={"run": "demo", **wrong})
    assert response.status_code == 400
    assert next(iter(wrong)) in response.json()["error"]


def test_an_episode_is_a_conversation(get):
    episode = get("episode", **EPISODE)
    assert [call["response"]["parts"][0]["text"] for call in episode["calls"]] == [
        "let me see",
        "It is 42.",
        "Forty-two.",
        "Right.",
    ]
    assert episode["calls"][1]["messages"][0]["role"] == "tool"
    assert episode["output"]["metadata"]["judge_reason"] == "The number is right."
    assert [call["reward"] for call in episode["calls"]] == [0.5] * 4
    assert len(episode["group_episodes"]) == 4
    assert [row["step"] for row in episode["task_steps"]] == [1, 2, 3]


def test_the_token_tree_has_forks_and_shared_prefixes(get):
    main, fork, critic = get("episode", **EPISODE)["tree"]["rows"]
    assert [segment["call"] for segment in main["segments"]] == [0, 1]
    assert (fork["fork_of"], fork["num_shared"]) == (0, 10)
    assert (critic["shares_with"], critic["num_shared"]) == (0, 6)
    assert critic["reason"] == "first_call"


def test_tokens_are_those_of_the_file_bit_for_bit(get, run):
    samples = [
        s for s in read_rollouts(rollout_path(run.folder, 2)) if s.episode_id == EPISODE["episode"]
    ]
    assert len(samples) == 3
    for number, sample in enumerate(samples):
        columns = get("tokens", **EPISODE, sample=number, start=0)["columns"]
        assert columns["ids"] == sample.ids.tolist()
        assert columns["loss_mask"] == sample.loss_mask.tolist()
        assert columns["call_index"] == sample.call_index.tolist()
        for name in ("logprobs", "advantages"):
            np.testing.assert_array_equal(
                np.array(columns[name], np.float32), getattr(sample, name)
            )


def test_token_texts_come_from_the_run_s_tokenizer(get, run):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(run.folder / "tokenizer" / "tokenizer.json"))
    found = get("tokens", **EPISODE, sample=0, start=0)
    decoded = [
        tokenizer.decode([each], skip_special_tokens=False) for each in found["columns"]["ids"]
    ]
    half_characters = [text for text in decoded if text == "\ufffd"]
    assert half_characters  # bytes that are no whole character, which are shown as escapes
    for text, expected in zip(found["texts"], decoded, strict=True):
        assert text == expected or (expected == "\ufffd" and text.startswith("\\x"))


def test_credit_is_shown_per_call(get):
    assert {call["advantage"] for call in get("episode", **EPISODE)["calls"]} == {0.0}
    other = get("episode", step=2, episode="e-2-task-1-2")
    assert {call["advantage"] for call in other["calls"]} == {0.5}


def test_the_traceback_is_read_from_the_log(get):
    found = get("traceback", step=1, episode="e-1-task-2-3")
    assert found == {"cause": "ValueError: no", "traceback": "Traceback: no"}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("episode", {"step": 9, "episode": "e-2-task-1-1"}),
        ("episode", {"step": 2, "episode": "e-2-task-1-9"}),
        ("tokens", {**EPISODE, "sample": 7, "start": 0}),
        ("text", {**EPISODE, "at": "99,0,0"}),
        ("nothing", {}),
    ],
)
def test_what_is_not_there_is_a_404(client, name, parameters):
    assert client.get(f"/api/{name}", params={"run": "demo", **parameters}).status_code == 404


def test_what_a_run_adds_is_there_at_the_next_question(get, run):
    before = get("stamps")["demo"]
    run.step(4)
    assert get("stamps")["demo"] != before
    assert get("run")["steps"][-1]["step"] == 4
    assert get("metrics")["steps"] == [1, 2, 3, 4]
    assert get("episodes")["total"] == 32


def test_a_resumed_run_takes_back_what_it_writes_again(get, run):
    assert get("episodes")["total"] == 24
    path = run.folder / "episodes.jsonl"
    kept = [line for line in path.read_text().splitlines() if json.loads(line)["step"] < 3]
    aside = run.folder / "aside"
    aside.write_text("\n".join(kept) + "\n")
    aside.replace(path)
    assert get("episodes")["total"] == 16


def test_a_torn_last_line_is_not_read(get, run):
    with (run.folder / "episodes.jsonl").open("a") as file:
        file.write('{"step": 9, "episode_id": "torn"')
    assert get("episodes")["total"] == 24
    with (run.folder / "episodes.jsonl").open("a") as file:
        file.write("}\n")
    assert get("episodes")["total"] == 25
