"""Whatever a model or a file says, it arrives as text, and nothing breaks."""

from __future__ import annotations

import json
import time

import pytest

from ajet.config.shown_settings import read_settings
from ajet.schema.episode import Group
from ajet.schema.task import Task
from tests.viewer.conftest import TOKEN, make_client
from tests.viewer.run_folders import HOSTILE, RunWriter, an_episode

LONG = "x" * 1_000_000


@pytest.fixture
def hostile(tmp_path):
    """A run whose model answered with everything at once."""
    writer = RunWriter(tmp_path / "runs" / "demo")
    episodes = [an_episode(0, says=HOSTILE), an_episode(1, says=LONG)]
    writer.step(1, [Group(task=Task(task_id="task-1"), episodes=episodes)])
    return writer


@pytest.fixture
def get(hostile):
    client = make_client(hostile.folder.parent)
    client.get("/", params={"token": TOKEN}, follow_redirects=False)

    def ask(name, **parameters):
        response = client.get(f"/api/{name}", params={"run": "demo", **parameters})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        assert response.content.isascii()
        return response.json()

    return ask


def test_text_arrives_as_it_was_lone_surrogates_included(get):
    episode = get("episode", step=1, episode="e-0-task-1-0")
    assert episode["calls"][1]["response"]["parts"][0]["text"] == HOSTILE


def test_hostile_text_is_found_by_search(get):
    for text in ("<script>", "\u202egnirts"):
        assert get("episodes", text=text)["total"] == 1


def test_a_line_of_a_megabyte_is_cut_and_comes_in_pieces(get):
    episode = get("episode", step=1, episode="e-0-task-1-1")
    part = episode["calls"][1]["response"]["parts"][0]
    assert (len(part["text"]), part["total"]) == (4000, len(LONG))
    got = part["text"]
    at = ",".join(map(str, part["at"]))
    while len(got) < part["total"]:
        got += get("text", step=1, episode="e-0-task-1-1", at=at, start=len(got))["text"]
    assert got == LONG


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 1, "episode_id": "<b>\\ud800", "task_id": "\\u202e", "agents": {"\\u0000": {}}}',
        '{"step": 1, "episode_id": "x", "reward": "NaN", "agents": [1], "tokens": 3}',
        '{"step": 1, "episode_id": "x", "reward": NaN, "num_calls": 1e999}',
        '{"step": 1, "episode_id": "x", "reward": 1' + "0" * 400 + "}",
        '{"step": true, "episode_id": 3}',
        "[" * 100_000,
        "not JSON",
        '"a string"',
    ],
)
def test_a_strange_line_disturbs_no_other(get, hostile, line):
    with (hostile.folder / "episodes.jsonl").open("a") as file:
        file.write(line + "\n" + json.dumps({"step": 7, "episode_id": "after"}) + "\n")
    assert get("episodes", step=7)["total"] == 1
    assert get("episodes", phase="train")["total"] == 2


def test_yaml_that_contains_itself_ends(tmp_path):
    (tmp_path / "config.yaml").write_text("a: &a {b: *a}\n")
    settings, _ = read_settings(tmp_path)
    assert settings


def test_yaml_that_stands_for_billions_of_keys_ends_soon(tmp_path):
    lines = ["l0: &l0 [lol, lol]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12)]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    began = time.monotonic()
    settings, problem = read_settings(tmp_path)
    assert time.monotonic() - began < 60  # all of them would take years
    assert len(json.dumps(settings)) < 10_000_000
    assert "more than" in problem


def test_yaml_runs_no_code(tmp_path):
    (tmp_path / "config.yaml").write_text(
        f"a: !!python/object/apply:os.system ['touch {tmp_path / 'harmed'}']\n"
    )
    assert read_settings(tmp_path)[0] == {}
    assert not (tmp_path / "harmed").exists()
