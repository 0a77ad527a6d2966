"""The client of other models.

1. It answers in any thread and on any event loop, with at most `max_concurrent` calls at once.
2. What a busy or broken server does is tried again within limits, and the error names it; what
   cannot get better is not tried again. `retry-after` is honoured.
3. An equal question is answered from disk, and equal questions at the same time are asked once.
4. Calls and tokens have a budget, also over processes that come later.
5. Every call is in the run's record. The key is in none of its files, and in no message.
6. An answer of a given form is read strictly.
7. The URL and the key come from the settings, the model's name, or the environment.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ajet.config.sections.model_client import ModelClientConfig
from ajet.errors import ConfigError, ModelBudgetError, ModelCallError
from ajet.model_client import PLACE, ModelAnswer, ModelClient, attempts
from ajet.model_client.call_log import CallBudget
from ajet.model_client.endpoint import endpoint_of
from tests.judges.model_server import ModelServer, Reply, serving
from tests.processes.service_processes import eventually

pytestmark = pytest.mark.filterwarnings("error")

HELLO = [{"role": "user", "content": "hello"}]
KEY = "sk-very-secret-1234567890"


class Verdict(BaseModel):
    model_config = ConfigDict(extra="forbid")

    score: int = Field(ge=0, le=10)
    words: str


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "experiments" / "run"
    folder.mkdir(parents=True)
    monkeypatch.setattr(PLACE, "run_folder", folder)
    monkeypatch.setattr(PLACE, "experiment_dir", folder.parent)
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.02)
    return folder


def client_of(server: ModelServer, **settings: Any) -> ModelClient:
    given = {"model": "scripted", "base_url": server.url, **settings}
    return ModelClient(ModelClientConfig(**given), purpose="judge")


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "model_calls.jsonl").read_text().splitlines()]


def failing(server: ModelServer, **settings: Any) -> str:
    with pytest.raises(ModelCallError) as caught:
        client_of(server, **settings).ask_blocking(HELLO)
    return str(caught.value)


def test_one_client_serves_threads_and_event_loops_within_its_limit(place):
    first = threading.Barrier(8)

    def reply(_: Any, number: int) -> Reply:
        if number < first.parties:
            first.wait(60)
        return Reply(content=str(number), delay_s=0.02)

    with serving(reply) as server:
        client = client_of(server, max_concurrent=first.parties)

        def one(number: int) -> str:
            question = [{"role": "user", "content": str(number)}]
            if number % 2:
                return client.ask_blocking(question).text
            return asyncio.run(client.ask(question)).text  # an event loop that ends with it

        with ThreadPoolExecutor(64) as pool:
            answers = list(pool.map(one, range(64)))
    assert sorted(answers) == sorted(map(str, range(64)))
    assert server.most_at_once == first.parties
    assert len(records(place)) == 64


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (Reply(status=500, content="broken"), "HTTP 500 scripted: 'broken'"),
        (Reply(status=503, content="busy"), "HTTP 503"),
        (Reply(status=429, content="slow down"), "HTTP 429"),
        (Reply(hangs_up=True), "ServerDisconnectedError"),
        (Reply(raw=b"<html>nonsense</html>"), "no chat completion: '<html>nonsense</html>'"),
        (Reply(raw=b'["a list"]'), "no chat completion"),
        (Reply(raw=b'{"choices": []}'), "the answer is empty"),
        (Reply(raw=b'{"choices": [{"message": null}]}'), "the answer is empty"),
        (Reply(content=""), "the answer is empty"),
        (Reply(content=None), "the answer is empty"),
        (Reply(delay_s=60), "no answer within 0.5 s (timeout_s)"),
    ],
)
def test_what_may_get_better_is_tried_again_and_named_if_it_does_not(place, first, words):
    def once(_: Any, number: int) -> Reply:
        return first if number == 0 else Reply(content="yes")

    # Only what is late is given up: on a busy machine, another answer may take a while.
    first_s, later_s = (2.0, 0.5) if first.delay_s else (60.0, 60.0)
    with serving(once) as server:
        answer = client_of(server, timeout_s=first_s).ask_blocking(HELLO)
    assert (answer.text, answer.attempts) == ("yes", 2)

    with serving(first) as server:
        message = failing(server, timeout_s=later_s, max_retries=2, cache=False)
        # A request may be given up before the server has read it.
        assert eventually(lambda: len(server.requests) == 3, 60)
    assert "3 attempts" in message and words in message
    assert len(server.requests) == 3
    assert records(place)[-1]["error"] == message


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(status=401, content="who are you"), "HTTP 401"),
        (Reply(status=400, content="no such field"), "HTTP 400"),
        (
            Reply(status=429, raw=b'{"error": {"message": "pay", "code": "insufficient_quota"}}'),
            "insufficient_quota",
        ),
        (Reply(content=None, message={"refusal": "I cannot judge this"}), "refused"),
        (Reply(finish_reason="content_filter"), "refused"),
        (Reply(content="x" * 1_000_000), "more than 1,000,000 bytes (max_answer_bytes)"),
    ],
)
def test_what_cannot_get_better_is_asked_once(reply, words):
    with serving(reply) as server:
        message = failing(server)
    assert "1 attempt:" in message and words in message
    assert len(server.requests) == 1


def test_nothing_in_a_response_is_an_error_of_ours():
    odd: list[Any] = [None, True, -1, 1e400, 10**30, "x", [], [1], {}, {"a": 1}]
    config = ModelClientConfig(model="m", base_url="http://127.0.0.1:9/v1", max_total_tokens=10)
    budget, endpoint = CallBudget(config, "judge", None), endpoint_of(config)
    asked = attempts.Attempts(None, config, endpoint, budget)  # type: ignore[arg-type]
    said = {"message": {"content": "yes"}}
    shapes: list[Callable[[Any], Any]] = [
        lambda x: x,
        lambda x: {"choices": x},
        lambda x: {"choices": [x]},
        lambda x: {"choices": [{"message": x}]},
        lambda x: {"choices": [{"message": {"content": x}}]},
        lambda x: {"choices": [said | {"finish_reason": x}]},
        lambda x: {"choices": [said], "usage": x},
        lambda x: {"choices": [said], "usage": {"prompt_tokens": x}},
    ]
    bodies = [json.dumps(shape(x)).encode() for x in odd for shape in shapes]
    for body in [*bodies, b"[" * 5000, b"1" * 5000, b"\xff", b""]:
        with suppress(ModelCallError):
            assert asked._usable(body, None).prompt_tokens >= 0


def test_a_server_that_is_down_is_named():
    with serving("yes") as server:
        pass
    message = failing(server, max_retries=1)
    assert server.url in message and "2 attempts" in message and "onnect" in message


def test_the_pause_that_a_server_asks_for_is_kept():
    def once(_: Any, number: int) -> Reply:
        busy = Reply(status=429, headers={"retry-after": "0.3"})
        return busy if number == 0 else Reply()

    with serving(once) as server:
        client_of(server).ask_blocking(HELLO)
    assert 0.3 <= server.times[1] - server.times[0] < 20


def test_a_pause_beyond_the_deadline_fails_at_once_with_the_servers_words():
    with serving(Reply(status=429, content="come back", headers={"retry-after": "900"})) as server:
        started_s = time.monotonic()
        message = failing(server)
    assert "HTTP 429" in message and "come back" in message
    assert time.monotonic() - started_s < 60  # the deadline is 180 s


def test_a_date_is_a_pause_too():
    assert attempts._retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert attempts._retry_after_s({"retry-after": "soon"}) is None
    assert attempts._retry_after_s({"retry-after": "-5"}) == 0
    assert attempts._retry_after_s({}) is None


def test_all_attempts_together_have_a_deadline():
    with serving(Reply(status=500)) as server:
        started_s = time.monotonic()
        message = failing(server, deadline_s=1.5, max_retries=1000)
    assert time.monotonic() - started_s < 60  # all retries would take hours
    assert "deadline_s" in message and "HTTP 500" in message


def test_an_equal_question_is_answered_from_disk(place):
    with serving(lambda _, number: Reply(content=str(number))) as server:
        first = client_of(server).ask_blocking(HELLO)
        again = client_of(server).ask_blocking(HELLO)  # as in another run
        other = client_of(server).ask_blocking(HELLO, sample=1)
        warmer = client_of(server, temperature=0.5).ask_blocking(HELLO)
        without = client_of(server, cache=False).ask_blocking(HELLO)
    assert [first.text, again.text, other.text, warmer.text, without.text] == list("00123")
    assert (again.is_kept, again.attempts, again.prompt_tokens) == (True, 0, 10)
    assert [record["is_kept"] for record in records(place)] == [False, True, False, False, False]
    with serving("never asked") as server:
        pass


def test_equal_questions_at_the_same_time_are_asked_once():
    with serving(lambda _, number: Reply(content=str(number), delay_s=0.1)) as server:
        client = client_of(server)

        async def all_at_once() -> list[Any]:
            return await asyncio.gather(*(client.ask(HELLO) for _ in range(10)))

        answers = asyncio.run(all_at_once())
    assert {answer.text for answer in answers} == {"0"}
    assert sorted(answer.attempts for answer in answers) == [0] * 9 + [1]
    assert len(server.requests) == 1


def test_of_equal_questions_one_asker_may_leave():
    with serving(Reply(content="late", delay_s=0.3)) as server:
        client = client_of(server)

        async def one_leaves() -> str:
            first, second = (asyncio.create_task(client.ask(HELLO)) for _ in range(2))
            await asyncio.sleep(0.1)
            first.cancel()
            return (await second).text

        assert asyncio.run(one_leaves()) == "late"
    assert len(server.requests) == 1


class SlowToEnd(ModelClient):
    """Its first attempt takes a moment to end after it was given up."""

    num_attempts = 0

    async def _answered(self, *_: Any) -> ModelAnswer:
        self.num_attempts += 1
        if self.num_attempts > 1:
            return ModelAnswer(text="new")
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.3)
        return ModelAnswer(text="old")


def test_nobody_waits_for_an_attempt_that_was_given_up():
    config = ModelClientConfig(model="scripted", base_url="http://127.0.0.1:9/v1")
    client = SlowToEnd(config, purpose="judge")

    async def asked_again() -> str:
        first = asyncio.create_task(client.ask(HELLO))
        async with asyncio.timeout(60):
            while not client.num_attempts:
                await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(0.1)
        return (await client.ask(HELLO)).text

    assert asyncio.run(asked_again()) == "new"


def test_a_failure_is_not_kept():
    def once(_: Any, number: int) -> Reply:
        return Reply(status=400) if number == 0 else Reply(content="yes")

    with serving(once) as server:
        failing(server)
        assert client_of(server).ask_blocking(HELLO).text == "yes"


def test_a_file_that_cannot_be_used_is_reported_once_and_stops_nothing(place, caplog):
    folder = place.parent / "model_cache"
    folder.mkdir()
    (folder / "answers.sqlite").write_bytes(b"this is no database" * 1000)
    with serving("yes") as server:
        client = client_of(server)
        assert client.ask_blocking(HELLO).text == "yes"
        assert client.ask_blocking(HELLO).text == "yes"
    assert len(caplog.records) == 1
    assert "answers.sqlite" in caplog.text


def test_calls_have_a_budget_which_kept_answers_do_not_use(place):
    with serving("yes") as server:
        client = client_of(server, max_calls=2)
        for number in (0, 0, 1, 1):
            client.ask_blocking(HELLO, sample=number)
        with pytest.raises(ModelBudgetError, match=r"2\s+calls.*max_calls 2"):
            client.ask_blocking(HELLO, sample=2)
        with pytest.raises(ModelBudgetError):  # of a resumed run, or of another process
            client_of(server, max_calls=2).ask_blocking(HELLO, sample=3)
    assert len(server.requests) == 2


def test_retries_count_as_calls():
    with serving(Reply(status=500)) as server, pytest.raises(ModelBudgetError):
        client_of(server, max_calls=3).ask_blocking(HELLO)
    assert len(server.requests) == 3


def test_tokens_have_a_budget():
    with serving("yes") as server:
        client = client_of(server, max_total_tokens=30)
        client.ask_blocking(HELLO, sample=0)
        client.ask_blocking(HELLO, sample=1)
        with pytest.raises(ModelBudgetError, match="30 tokens"):
            client.ask_blocking(HELLO, sample=2)


def test_every_call_is_on_record_and_the_key_is_nowhere(place, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)

    def script(_: Any, number: int) -> Reply:
        if number == 0:
            return Reply(content="yes")
        return Reply(status=401, content=f"the key {KEY} is wrong")

    with serving(script) as server:
        client = client_of(server, api_key_env="JUDGE_KEY")
        client.ask_blocking(HELLO)
        with pytest.raises(ModelCallError) as caught:
            client.ask_blocking([{"role": "user", "content": "other \ud800"}])
    assert server.keys == [f"Bearer {KEY}"] * 2
    good, bad = records(place)
    assert (good["messages"], good["answer"], good["error"]) == (HELLO, "yes", None)
    assert (good["prompt_tokens"], good["completion_tokens"]) == (10, 5)
    assert 0 < good["seconds"] < 60 and good["purpose"] == "judge"
    assert bad["answer"] is None and "HTTP 401" in bad["error"]
    assert KEY not in str(caught.value) and KEY not in repr(client.config)
    files = [path for path in place.parent.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"model_calls.jsonl", "answers.sqlite"}
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(
    "text",
    [
        '{"score": 7, "words": "good"}',
        '```json\n{"score": 7, "words": "good"}\n```',
        'Here it is:\n```\n{"score": 7, "words": "good"}\n```\nDone.',
        '<think>maybe {"score": 1}</think>{"score": 7, "words": "good"}',
        'maybe {"score": 1}\n</think>\n\n{"score": 7, "words": "good"}',
    ],
)
def test_an_answer_of_a_given_form_is_read(text):
    with serving(text) as server:
        answer = client_of(server).ask_blocking(HELLO, form=Verdict)
        assert answer.value == Verdict(score=7, words="good")
        assert client_of(server).ask_blocking(HELLO, form=Verdict).value == answer.value
    (request,) = server.requests
    wanted = request["response_format"]["json_schema"]
    assert wanted["strict"] is True and wanted["schema"] == Verdict.model_json_schema()
    assert '"maximum": 10' in request["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Seven.", "Invalid JSON"),
        ('{"score": 11, "words": ""}', "score: Input should be less than or equal to 10"),
        ('{"score": "NaN", "words": ""}', "score"),
        ('{"words": "no score"}', "score: Field required"),
        ('{"score": 7, "words": "good"} {"score": 1, "words": "bad"}', "trailing characters"),
        ('{"score": 7, "words": "good", "and": 1}', "and: Extra inputs"),
    ],
)
def test_an_answer_without_its_form_is_quoted(text, why):
    with serving(text) as server, pytest.raises(ModelCallError) as caught:
        client_of(server).ask_blocking(HELLO, form=Verdict)
    assert why in str(caught.value) and repr(text) in str(caught.value)
    assert len(server.requests) == 2  # the first, and one more (`unusable_retries`)


def test_an_answer_that_was_cut_off_says_so():
    cut = Reply(content='{"score": 7, "wo', finish_reason="length")
    said = pytest.raises(ModelCallError, match=r"cut off \(max_tokens\)")
    with serving(cut) as server, said:
        client_of(server, max_tokens=5).ask_blocking(HELLO, form=Verdict)
    assert server.requests[0]["max_tokens"] == 5


def test_options_and_ways_to_ask_for_a_form_reach_the_server():
    with serving('{"score": 1, "words": ""}') as server:
        client_of(server, options={"top_p": 0.5}).ask_blocking(HELLO, form=Verdict)
        for structured in ("json_object", "prompt"):
            client = client_of(server, structured=structured, temperature=None)
            client.ask_blocking(HELLO, form=Verdict)
    first, second, third = server.requests
    assert first["top_p"] == 0.5 and first["temperature"] == 0
    assert second["response_format"] == {"type": "json_object"} and "temperature" not in second
    assert "response_format" not in third


DASHSCOPE = "https://dashscope.aliyuncs.com/compatible-mode/v1"


@pytest.mark.parametrize(
    ("settings", "variables", "url", "key"),
    [
        ({"model": "qwen-max"}, {"DASHSCOPE_API_KEY": "d"}, DASHSCOPE, "d"),
        (
            {"model": "qwen3-235b-a22b-instruct-2507"},
            {"DASHSCOPE_API_KEY": "d", "OPENAI_API_KEY": "o"},
            DASHSCOPE,
            "d",
        ),
        ({"model": "dashscope/deepseek-v3"}, {"DASHSCOPE_API_KEY": "d"}, DASHSCOPE, "d"),
        (
            {"model": "qwen-max"},
            {"DASHSCOPE_API_KEY": "d", "DASHSCOPE_BASE_URL": "http://h/v1"},
            "http://h/v1",
            "d",
        ),
        ({"model": "gpt-x"}, {"OPENAI_API_KEY": "o"}, "https://api.openai.com/v1", "o"),
        (
            {"model": "gpt-x"},
            {"OPENAI_API_KEY": "o", "OPENAI_BASE_URL": "http://h/v1"},
            "http://h/v1",
            "o",
        ),
        ({"model": "Qwen/Qwen3-8B", "base_url": "http://h/v1/"}, {}, "http://h/v1", "none"),
        (
            {"model": "qwen-max", "base_url": "http://h/v1", "api_key_env": "MINE"},
            {"MINE": "m", "DASHSCOPE_API_KEY": "d"},
            "http://h/v1",
            "m",
        ),
    ],
)
def test_url_and_key(monkeypatch, settings, variables, url, key):
    for name in ("DASHSCOPE_API_KEY", "DASHSCOPE_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    endpoint = endpoint_of(ModelClientConfig(**settings))
    assert (endpoint.url, endpoint.key) == (url, key)
    assert repr(endpoint) == f"ModelEndpoint(url={url!r})"


def test_a_missing_key_is_named_by_its_variable(monkeypatch):
    monkeypatch.delenv("DASHSCOPE_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="export DASHSCOPE_API_KEY"):
        ModelClient(ModelClientConfig(model="qwen-max"), purpose="judge")
    with pytest.raises(ConfigError, match='set its "model"'):
        ModelClient(ModelClientConfig(), purpose="judge")


@pytest.mark.parametrize(
    "settings", [{"api_key_env": KEY}, {"base_url": f"http://user:{KEY}@h/v1"}]
)
def test_a_key_in_the_settings_is_refused_and_not_quoted_in_our_words(settings):
    with pytest.raises(ValidationError) as caught:
        ModelClientConfig(model="gpt-x", **settings)
    assert KEY not in caught.value.errors()[0]["msg"]


def test_the_policy_is_not_there_outside_of_a_run(monkeypatch):
    monkeypatch.setattr(PLACE, "policy", None)  # a run of an earlier test may have set it
    client = ModelClient(ModelClientConfig(model="policy"), purpose="judge")
    with pytest.raises(ModelCallError, match="not running here"):
        client.ask_blocking(HELLO)
