"""What the page asks for, as plain data. Knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ajet.errors import RequestError
from ajet.viewer.episode_detail import episode_detail, more_text
from ajet.viewer.episode_index import agent_names
from ajet.viewer.episode_query import EpisodeQuery, matching_steps, run_query
from ajet.viewer.run_library import RunLibrary
from ajet.viewer.run_view import RunView
from ajet.viewer.sample_tokens import EpisodeSamples
from ajet.viewer.step_tables import UnreadableError
from ajet.viewer.task_queries import queries_of
from ajet.viewer.text_search import TextSearch

INDEX_WAIT_S = 0.4
"""A page does not wait longer for the index: it shows what is there, and asks again."""
_MAX_ID = 1000

Parameters = Mapping[str, str]


class ViewerApi:
    """Answers by name. Any thread.

    Raises:
        RequestError: a parameter is wrong (400), or something is not there (404).
    """

    def __init__(self, library: RunLibrary) -> None:
        self.library = library
        self._searches: dict[str, TextSearch] = {}
        self.answers: dict[str, Callable[[Parameters], Any]] = {
            "runs": self._runs,
            "stamps": self._stamps,
            "run": self._run,
            "metrics": self._metrics,
            "episodes": self._episodes,
            "episode": self._episode,
            "tokens": self._tokens,
            "text": self._text,
            "traceback": self._traceback,
        }

    def answer(self, name: str, given: Parameters) -> Any:
        """The data behind `/api/NAME?...`."""
        answer = self.answers.get(name)
        if answer is None:
            raise RequestError(f"there is no /api/{name[:80]}", status=404)
        try:
            return answer(given)
        except UnreadableError as error:
            raise RequestError(str(error), status=404) from error

    def _runs(self, given: Parameters) -> Any:
        views = self.library.runs()
        return {
            "place": str(self.library.place),
            "is_one_run": self.library.is_one_run,
            "runs": [view.summary() for view in views],
        }

    def _stamps(self, given: Parameters) -> Any:
        return {view.folder.name: view.stamp() for view in self.library.runs()}

    def _run(self, given: Parameters) -> Any:
        return self._view(given).detail(INDEX_WAIT_S)

    def _metrics(self, given: Parameters) -> Any:
        records = self._view(given).metrics()
        names = list(dict.fromkeys(name for record in records for name in record))
        names = [name for name in names if name != "step"]
        return {
            "steps": [record["step"] for record in records],
            "columns": {name: [_number(r.get(name)) for r in records] for name in names},
        }

    def _episodes(self, given: Parameters) -> Any:
        view = self._view(given)
        view.episodes.refresh(INDEX_WAIT_S)
        query = EpisodeQuery.parse(given)
        left_out: list[int] = []
        if query.text:
            search = self._searches.setdefault(view.folder.name, TextSearch(view.folder))
            steps = matching_steps(view.episodes, query)
            found, left_out = search.search(query.text, steps)
            query.only(found)
        page = run_query(view.episodes, query)
        queries = queries_of(view.folder, page["rows"])
        for row in page["rows"]:
            row["query"] = queries.get((row["step"], row["episode_id"]))
        return {**page, "not_searched": left_out, "index": view.episodes.progress()}

    def _episode(self, given: Parameters) -> Any:
        view, step, episode_id = self._view(given), _integer(given, "step"), _episode_id(given)
        view.episodes.refresh(INDEX_WAIT_S)
        logged = view.episodes.rows(
            "SELECT * FROM episodes WHERE step = ? AND episode_id = ?", [step, episode_id]
        )
        detail = episode_detail(view.folder, step, episode_id)
        if not logged and not detail["calls"] and not detail["samples"]:
            raise RequestError(f"step {step} has no episode {episode_id}", status=404)
        log = logged[0] if logged else {}
        log["agents"] = agent_names(log.get("agents"))
        task_id = log.get("task_id") or (detail["task"] or {}).get("task_id", "")
        phase = log.get("phase", "train")
        if phase != "train" and not detail["calls"]:
            detail["missing"] = [
                "only the outcome of evaluation episodes is recorded: no conversation, no tokens"
            ]
        return {
            **detail,
            "log": log,
            "task_id": task_id,
            "phase": phase,
            "has_traceback": log.get("outcome", "ok") != "ok",
            **self._neighbours(view, step, phase, task_id),
        }

    def _neighbours(self, view: RunView, step: int, phase: str, task_id: str) -> dict[str, Any]:
        """The group, and the same task at other steps."""
        group = view.episodes.rows(
            "SELECT episode_id, repeat_index, reward, is_success, outcome FROM episodes "
            "WHERE step = ? AND phase = ? AND task_id = ? ORDER BY repeat_index LIMIT 200",
            [step, phase, task_id],
        )
        others = view.episodes.rows(
            "SELECT step, phase, count(*) AS count, avg(reward) AS reward_mean, "
            "min(episode_id) AS episode_id FROM episodes "
            "WHERE task_id = ? GROUP BY step, phase ORDER BY step LIMIT 500",
            [task_id],
        )
        return {"group_episodes": group, "task_steps": others}

    def _tokens(self, given: Parameters) -> Any:
        view, step, episode_id = self._view(given), _integer(given, "step"), _episode_id(given)
        samples = EpisodeSamples(view.folder, step, episode_id)
        number = _integer(given, "sample")
        if not 0 <= number < len(samples):
            raise RequestError(f"there is no sample {number}", status=404)
        return samples.tokens(number, max(0, _integer(given, "start")), view.token_texts())

    def _text(self, given: Parameters) -> Any:
        view, step, episode_id = self._view(given), _integer(given, "step"), _episode_id(given)
        try:
            at = [int(each) for each in given.get("at", "").split(",")]
            call, number, position = at
            start = int(given.get("start", "0"))
            if min(call, position, start) < 0 or number < -1:
                raise ValueError
        except ValueError:
            raise RequestError("at: expected call,message,part, and start a number") from None
        try:
            return {"text": more_text(view.folder, step, episode_id, at, start)}
        except LookupError:
            raise RequestError("there is no such text", status=404) from None

    def _traceback(self, given: Parameters) -> Any:
        view, step, episode_id = self._view(given), _integer(given, "step"), _episode_id(given)
        view.episodes.refresh(INDEX_WAIT_S)
        rows = view.episodes.rows(
            "SELECT line_offset, line_length FROM episodes WHERE step = ? AND episode_id = ?",
            [step, episode_id],
        )
        record = view.episodes.whole_record(*rows[0].values()) if rows else {}
        return {"cause": record.get("cause"), "traceback": record.get("traceback")}

    def _view(self, given: Parameters) -> RunView:
        try:
            return self.library.get(given.get("run", ""))
        except LookupError as error:
            raise RequestError(str(error.args[0]), status=404) from None


def _integer(given: Parameters, name: str) -> int:
    try:
        value = int(given.get(name, ""))
    except ValueError:
        raise RequestError(f"{name}: expected a number") from None
    if not 0 <= value < 2**31:
        raise RequestError(f"{name}: expected a number from 0 to 2147483647")
    return value


def _episode_id(given: Parameters) -> str:
    episode_id = given.get("episode", "")
    if not 0 < len(episode_id) <= _MAX_ID:
        raise RequestError("episode: expected the id of an episode")
    return episode_id


def _number(value: Any) -> float | int | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
