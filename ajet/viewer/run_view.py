"""One run's folder as the viewer sees it: what is there, what is missing, whether it is running."""

from __future__ import annotations

import json
import platform
import threading
import time
from pathlib import Path
from typing import Any

from ajet.config.shown_settings import read_settings, without_secrets
from ajet.monitor import call_store, episode_log, metrics_log, rollout_store, run_record
from ajet.monitor.step_tables import steps_in
from ajet.viewer.episode_index import EpisodeIndex, agent_names_in
from ajet.viewer.line_follower import LineFollower
from ajet.viewer.token_texts import TokenTexts, find_tokenizer

MARKS = (
    run_record.FILE_NAME,
    metrics_log.FILE_NAME,
    episode_log.FILE_NAME,
    "config.yaml",
)
"""A folder with one of these is a run's."""

SUMMARY = ("reward/mean", "episode/success_rate", "eval/success_rate", "eval/greedy_success_rate")
"""Metrics whose first and last values stand in the list of runs."""


def is_run(folder: Path) -> bool:
    """Whether the folder is a run's."""
    return any((folder / name).is_file() for name in MARKS)


class RunView:
    """A run's folder. Any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.episodes = EpisodeIndex(folder)
        self._metrics = LineFollower(folder / metrics_log.FILE_NAME)
        self._records: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._settings: tuple[tuple[int, int], tuple[dict[str, Any], str | None]] | None = None
        self._texts: tuple[Path, TokenTexts | None] | None = None

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl` that have a step, so far."""
        with self._lock:
            lines = self._metrics.read()
            if self._metrics.is_restarted:
                self._records = []
            self._records += [line.record for line in lines if type(line.record.get("step")) is int]
            return list(self._records)

    def token_texts(self) -> TokenTexts | None:
        """Texts of token ids; None while the folder has no tokenizer."""
        with self._lock:
            path = find_tokenizer(self.folder)
            if path is None:
                return None
            if self._texts is None or self._texts[0] != path:
                self._texts = (path, TokenTexts.load(path))
            return self._texts[1]

    def settings(self) -> tuple[dict[str, Any], str | None]:
        """The settings, and what is wrong with `config.yaml` if something is."""
        try:
            stat = (self.folder / "config.yaml").stat()
        except OSError:
            return read_settings(self.folder)
        version = (stat.st_mtime_ns, stat.st_size)
        with self._lock:
            if self._settings is None or self._settings[0] != version:
                self._settings = (version, read_settings(self.folder))
            return self._settings[1]

    def processes(self) -> tuple[list[dict[str, Any]], str | None]:
        """The entries of `run.json`, and what is wrong with it if something is."""
        try:
            text = (self.folder / run_record.FILE_NAME).read_text(encoding="utf-8")
            entries = json.loads(text)["processes"]
        except FileNotFoundError:
            return [], "run.json is not there: command, versions and outcome are not known"
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return [], "run.json is damaged: command, versions and outcome are not known"
        entries = entries if isinstance(entries, list) else []
        return [entry for entry in entries if isinstance(entry, dict)], None

    def stamp(self) -> str:
        """Changes when there is something new to show."""
        parts = []
        for name in (*MARKS, call_store.FOLDER, rollout_store.FOLDER):
            try:
                stat = (self.folder / name).stat()
            except OSError:
                continue
            parts.append(f"{stat.st_mtime_ns:x}.{stat.st_size:x}")
        return "-".join(parts)

    def summary(self) -> dict[str, Any]:
        """A row in the list of runs."""
        records = self.metrics()
        processes, _ = self.processes()
        settings, _ = self.settings()
        firsts_and_lasts = {}
        for name in SUMMARY:
            values = [r[name] for r in records if isinstance(r.get(name), int | float)]
            if values:
                firsts_and_lasts[name] = [values[0], values[-1]]
        return {
            "name": self.folder.name,
            "status": status_of(processes),
            "started_at": processes[0].get("started_at") if processes else None,
            "last_step": max((r["step"] for r in records), default=None),
            "total_steps": settings.get("ajet.trainer_common.total_training_steps"),
            "backbone": settings.get("ajet.backbone"),
            "model": _last_part(settings.get("ajet.model.path")),
            "project": settings.get("ajet.project_name"),
            "metrics": firsts_and_lasts,
            "stamp": self.stamp(),
        }

    def detail(self, wait_s: float) -> dict[str, Any]:
        """Everything of the run but metrics and episodes."""
        self.episodes.refresh(wait_s)
        self.metrics()  # whether its last line is cut
        processes, problem = self.processes()
        settings, bad_settings = self.settings()
        status = status_of(processes)
        missing = [text for text in (problem, bad_settings) if text] + self._missing(status)
        return {
            "name": self.folder.name,
            "folder": str(self.folder),
            "status": status,
            "processes": [
                # A process that was killed could not write down how it ended.
                _shown_process(entry, status if entry is processes[-1] else "killed")
                for entry in processes
            ],
            "waiting": _waiting(processes),
            "quiet_s": self._quiet_s(),
            "settings": settings,
            "missing": missing,
            "index": self.episodes.progress(),
            "has_tokenizer": find_tokenizer(self.folder) is not None,
            "steps": self._steps(),
            "outcomes": self.episodes.rows(
                "SELECT phase, outcome, count(*) AS count FROM episodes "
                "GROUP BY phase, outcome ORDER BY count DESC"
            ),
            "causes": self.episodes.rows(
                "SELECT outcome, cause, count(*) AS count, max(step) AS last_step FROM episodes "
                "WHERE outcome != 'ok' GROUP BY outcome, cause ORDER BY count DESC LIMIT 20"
            ),
            "agents": agent_names_in(self.episodes),
            "stamp": self.stamp(),
        }

    def _steps(self) -> list[dict[str, Any]]:
        """Of each step and phase: episodes, reward, success, and whether they can be opened."""
        rows = self.episodes.rows(
            "SELECT step, phase, count(*) AS count, avg(reward) AS reward_mean, "
            "avg(is_success) AS success_rate, sum(outcome != 'ok') AS failed "
            "FROM episodes GROUP BY step, phase ORDER BY step, phase"
        )
        with_calls = set(_steps_in(self.folder / call_store.FOLDER))
        trained = {row["step"] for row in rows if row["phase"] == "train"}
        for row in rows:
            # An evaluation by itself records its calls; one within training only its outcomes.
            is_recorded = row["phase"] == "train" or row["step"] not in trained | {0}
            row["has_calls"] = is_recorded and row["step"] in with_calls
        return rows

    def _missing(self, status: str) -> list[str]:
        named = {
            metrics_log.FILE_NAME: "no curves",
            episode_log.FILE_NAME: "no list of episodes",
            call_store.FOLDER: "no conversations and no token trees",
            rollout_store.FOLDER: "no samples token by token",
        }
        missing = [
            f"{name} is not there: {effect}"
            for name, effect in named.items()
            if not (self.folder / name).exists()
        ]
        with self._lock:
            damaged, cut = self._metrics.num_damaged, self._metrics.num_cut
        episodes = self.episodes.progress()
        for name, num_damaged, num_cut in (
            (metrics_log.FILE_NAME, damaged, cut),
            (episode_log.FILE_NAME, episodes["damaged"], episodes["cut"]),
        ):
            if num_damaged:
                missing.append(f"{name}: damaged lines are left out: {num_damaged}")
            if num_cut and not status.startswith("running"):
                missing.append(f"{name} ends in the middle of a line, which is left out")
        if find_tokenizer(self.folder) is None:
            missing.append(
                "no tokenizer in the folder (it comes with the first checkpoint): tokens are "
                "shown as ids"
            )
        return missing

    def _quiet_s(self) -> float | None:
        """Seconds since the run last wrote something."""
        times = []
        for name in (*MARKS, call_store.FOLDER, rollout_store.FOLDER, "logs/ajet.log"):
            try:
                times.append((self.folder / name).stat().st_mtime)
            except OSError:
                continue
        return max(0.0, time.time() - max(times)) if times else None


def status_of(processes: list[dict[str, Any]]) -> str:
    """running, finished, interrupted, killed, failed: ..., or what is known instead."""
    if not processes:
        return "unknown"
    last = processes[-1]
    outcome = last.get("outcome")
    if not isinstance(outcome, str):
        return "unknown"
    if outcome != "running":
        return outcome
    if last.get("host") != platform.node():
        return f"running on {last.get('host')}, when it last wrote"
    try:
        return "running" if run_record.is_running(last) else "killed"
    except (KeyError, TypeError):
        return "unknown"


def _waiting(processes: list[dict[str, Any]]) -> Any:
    """What the run says that it waits for."""
    last = processes[-1] if processes else {}
    if last.get("outcome") != "running":
        return None
    return last.get("waiting_for") or last.get("waiting")


def _shown_process(entry: dict[str, Any], if_running: str) -> dict[str, Any]:
    command = entry.get("command")
    words = [str(word) for word in command] if isinstance(command, list) else []
    names = ("started_at", "ended_at", "directory", "host", "platform", "python")
    versions = entry.get("versions")
    return {
        **{name: entry.get(name) for name in names},
        "outcome": if_running if entry.get("outcome") == "running" else entry.get("outcome"),
        "git_revision": entry.get("git_revision"),
        "versions": versions if isinstance(versions, dict) else {},
        "command": without_secrets(words),
    }


def _steps_in(folder: Path) -> list[int]:
    try:
        return steps_in(folder)
    except ValueError:  # a file that is named like a step's, and is none
        return []


def _last_part(path: Any) -> str | None:
    return path.rstrip("/").rpartition("/")[2] if isinstance(path, str) else None
