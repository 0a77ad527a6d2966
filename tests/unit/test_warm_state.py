"""What is known of warm engines.

1. The file of an engine is the user's alone, and has the key nowhere but inside.
2. An engine is found by what it serves; a file of a process that is gone is removed.
3. An engine that is used, or was lately, is not idle; one that is idle is found no more.
4. Weights that change on disk change the fingerprint.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ajet.backbone.debug.warm_engine.registry import (
    WarmEngine,
    fingerprint,
    in_use,
    is_idle,
    read_state,
    state_folder,
    state_path,
    warm_engines,
)
from ajet.service.probes import start_ticks
from tests.unit.config_files import MINIMAL, load

NOW_S = 2e9


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def warm_of_us(**fields: object) -> WarmEngine:
    warm = WarmEngine(
        engine="embedded",
        model="/m",
        weights="w",
        pid=os.getpid(),
        start_ticks=start_ticks(os.getpid()),
        url="http://127.0.0.1:1",
        api_key="secret",
        started_s=time.time(),
        idle_s=60.0,
        log="/l",
    )
    return replace(warm, **fields)  # type: ignore[arg-type]


def written(**fields: object) -> Path:
    path = state_folder() / f"{len(warm_engines())}.json"
    warm_of_us(**fields).write(path)
    return path


# 1. and 2. Files.


def test_only_the_user_can_read_it(home):
    path = written()
    assert path.is_relative_to(home / "state" / "ajet" / "engines")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert read_state(path) == warm_of_us(started_s=read_state(path).started_s)
    assert "secret" not in repr(warm_of_us())


def test_it_is_in_the_home_where_no_folder_for_state_is_named(home, monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(home))
    assert state_folder() == home / ".local" / "state" / "ajet" / "engines"


def test_a_process_that_is_gone_has_no_file_for_long():
    path = written(start_ticks=1)  # another process has the pid by now
    assert read_state(path) is None
    assert not path.exists()
    assert read_state(path) is None


def test_all_that_are_up_are_listed_the_oldest_first():
    younger, older = written(started_s=2.0), written(started_s=1.0)
    written(pid=2**22 + 1)
    assert [path for path, _ in warm_engines()] == [older, younger]


def test_an_engine_is_found_by_what_it_serves(home):
    (home / "link").symlink_to(home)
    ajet = load(home).ajet
    path = state_path(ajet, home)
    assert state_path(ajet, home / "link") == path
    assert state_path(load(home, MINIMAL, "rollout.temperature=0.5").ajet, home) == path
    assert state_path(load(home, MINIMAL, "rollout.max_model_len=64").ajet, home) == path
    others = ["model.dtype=bfloat16", "rollout.name=vllm", "model.device=cpu"]
    for other in others:
        assert state_path(load(home, MINIMAL, other).ajet, home) != path
    assert state_path(ajet, home / "state") != path


# 3. Use and idleness.


def test_an_engine_in_use_is_not_idle():
    path = written()
    os.utime(path, (0, 0))
    with in_use(path) as warm, in_use(path) as again:
        assert warm == again == read_state(path)
        os.utime(path, (0, 0))
        assert not is_idle(path, 1.0, NOW_S)
        assert path.stat().st_mtime > 0  # it was used just now
    assert is_idle(path, 1.0, NOW_S)


def test_an_engine_that_was_used_lately_is_not_idle():
    path = written()
    os.utime(path, (NOW_S - 59, NOW_S - 59))
    assert not is_idle(path, 60.0, NOW_S)
    assert is_idle(path, 60.0, NOW_S + 2)


def test_what_is_idle_is_found_no_more():
    path = written()
    assert is_idle(path, 60.0, NOW_S)
    with in_use(path) as warm:
        assert warm is None
    with pytest.raises(FileNotFoundError):
        is_idle(path, 60.0, NOW_S)


# 4. Weights.


def test_a_fingerprint_changes_with_the_weights_only(home):
    model = home / "model"
    model.mkdir()
    weights = model / "model.safetensors"
    weights.write_bytes(b"1234")
    before = fingerprint(model)
    (model / "README.md").write_text("")
    assert fingerprint(model) == before
    os.utime(weights, (1, 1))
    later = fingerprint(model)
    weights.write_bytes(b"12345")
    os.utime(weights, (1, 1))
    assert len({before, later, fingerprint(model)}) == 3
