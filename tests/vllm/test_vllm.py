"""The real vLLM behind our engine.

1. Logprobs are log softmax(logits / temperature) of the model's own forward, whatever cuts the
   tail; ids end where the request says and nowhere else.
2. After an update the engine has the new weights, tied or not, and no key-values of the old ones;
   `check_weights` catches an update that was skipped, and vLLM's own reload of tied weights.
3. What is cancelled ends in the server. Without its key the server does nothing.
4. A server that is killed comes back once, with the weights of now.
5. A model that is not there and a port that is taken end in a message that says so.

Tests that change a server's weights set them first.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import socket
import tracemalloc
from pathlib import Path

import httpx2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from ajet.errors import EngineError, RequestError, ServiceError
from ajet.schema.episode import Generation, SamplingParams
from ajet.training.weight_sync_check import check_weights, probe_ids
from tests.processes.service_processes import eventually
from tests.torch.small_model import VOCABULARY
from tests.vllm.conftest import MAX_MODEL_LEN, Running, make_server, save

pytestmark = pytest.mark.vllm

PROMPT = list(range(20, 60))


@torch.no_grad()
def logprobs_of(
    model: PreTrainedModel, prompt: list[int], completion: list[int], temperature: float = 1.0
) -> np.ndarray:
    """[C] what the model itself gives the completion."""
    ids = torch.tensor([prompt + completion])
    logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float() / temperature
    chosen = torch.tensor(completion)[:, None]
    return logits.log_softmax(-1).gather(1, chosen)[:, 0].numpy()


def ask(running: Running, **options: object) -> Generation:
    params = SamplingParams(**{"max_tokens": 24, "seed": 5} | options)
    return asyncio.run(running.engine.generate(PROMPT, params, session="e"))


def set_weights(running: Running, seed: int, folder: Path, version: int = 1) -> PreTrainedModel:
    model = running.model(seed)
    model.save_pretrained(folder)
    asyncio.run(running.engine.update_weights(folder, version))
    return model


def probe(running: Running) -> list[float]:
    [row] = asyncio.run(running.engine.prompt_logprobs(probe_ids(VOCABULARY, 0)))
    return row


def probe_of(model: PreTrainedModel) -> np.ndarray:
    ids = probe_ids(VOCABULARY, 0)
    return logprobs_of(model, ids[:1], ids[1:])


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 1.0},
        {"temperature": 0.6},
        {"temperature": 0.0},
        {"temperature": 1.7, "top_p": 0.8},
        {"temperature": 0.7, "top_k": 5, "top_p": 0.9},
    ],
)
def test_logprobs_are_those_that_a_trainer_computes(running, tmp_path, sampling):
    model = set_weights(running, 1, tmp_path)
    answer = ask(running, **sampling)
    expected = logprobs_of(model, PROMPT, answer.token_ids, sampling["temperature"] or 1.0)
    assert len(answer.token_ids) == 24 and answer.finish_reason == "length"
    assert np.abs(expected - answer.logprobs).max() < 1e-4


def test_a_completion_ends_where_the_request_says(running):
    free = ask(running)
    stop = free.token_ids[7]
    cut = ask(running, stop_token_ids=(stop,))
    assert cut.token_ids == free.token_ids[: free.token_ids.index(stop) + 1]
    assert cut.finish_reason == "stop"


def test_a_stream_gives_the_same_tokens(running):
    emitted: list[int] = []
    params = SamplingParams(max_tokens=24, seed=5)
    streamed = asyncio.run(
        running.engine.generate(
            PROMPT, params, session="e", on_token=lambda token, _: emitted.append(token)
        )
    )
    assert emitted == streamed.token_ids == ask(running).token_ids


@pytest.mark.parametrize("refused", [{"stop": ("x",) * 10_000}, {"temperature": 100.0}])
def test_parameters_that_vllm_refuses_are_the_agents_mistake(running, refused):
    with pytest.raises(RequestError, match="vLLM refuses the request"):
        ask(running, **refused)
    assert ask(running).token_ids


def test_a_seed_gives_the_same_tokens_beside_calls_without_one(running):
    alone = ask(running)

    async def crowd() -> list[Generation]:
        calls = [(5, "e"), (None, "f"), (None, "g"), (6, "h"), (5, "i")]
        return await asyncio.gather(
            *(
                running.engine.generate(
                    PROMPT, SamplingParams(max_tokens=24, seed=seed), session=session
                )
                for seed, session in calls
            )
        )

    first, unseeded, also_unseeded, other, again = asyncio.run(crowd())
    assert first.token_ids == again.token_ids == alone.token_ids
    others = [unseeded.token_ids, also_unseeded.token_ids, other.token_ids]
    assert all(ids != alone.token_ids for ids in others) and others[0] != others[1]


def test_tokens_are_drawn_as_often_as_they_are_probable():
    from ajet.engine.vllm.worker import draw_with_seeds

    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.15, 0.05])
    logits = probabilities.log().repeat(4000, 1)
    generators = {row: torch.Generator().manual_seed(row) for row in range(0, 4000, 2)}
    drawn, _ = draw_with_seeds(None, logits, generators, None, None)
    shares = torch.bincount(drawn, minlength=5) / 4000
    assert (shares - probabilities).abs().max() < 0.03 and shares[1] == 0
    top_two = torch.full((4000,), 2)
    drawn, _ = draw_with_seeds(None, logits.clone(), generators, top_two, None)
    assert set(drawn.tolist()) == {0, 2}


def test_weights_are_read_as_they_were_written_and_nothing_of_them_stays(tmp_path):
    from ajet.engine.vllm.worker import tensors_of

    kinds = [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int64]
    written = {
        f"w{number}": torch.full((300,), number).to(kinds[number % 5]) for number in range(100)
    }
    written |= {
        "matrix": torch.randn(30, 40),
        "bool": torch.tensor([True, False]),
        "one": torch.tensor(2.5),
        "none": torch.empty(0, 3),
    }
    save_file(written, tmp_path / "model.safetensors", metadata={"format": "pt"})
    read = dict(tensors_of(tmp_path))
    assert list(read) == sorted(written)
    for name, tensor in read.items():
        assert tensor.dtype == written[name].dtype and tensor.shape == written[name].shape
        assert torch.equal(
            tensor.view(-1).view(torch.uint8), written[name].view(-1).view(torch.uint8)
        )
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(50):
            dict(tensors_of(tmp_path))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000  # with two integers for each tensor, three times as much


def test_the_short_way_answers_as_vllm_does(running):
    body = {
        "model": "policy",
        "prompt": PROMPT,
        "max_tokens": 24,
        "temperature": 0.8,
        "top_p": 0.9,
        "seed": 5,
        "stop_token_ids": [30],
        "ignore_eos": True,
        "logprobs": 0,
        "return_token_ids": True,
    }
    short, vllms_own = (post(running, "/v1/completions", body | more) for more in ({}, {"n": 1}))
    assert "usage" not in short.json() and "usage" in vllms_own.json()
    mine, theirs = short.json()["choices"][0], vllms_own.json()["choices"][0]
    assert mine["token_ids"] == theirs["token_ids"]
    assert mine["finish_reason"] == theirs["finish_reason"]
    assert mine["logprobs"]["token_logprobs"] == pytest.approx(
        theirs["logprobs"]["token_logprobs"], abs=1e-5
    )
    too_long = body | {"prompt": [20] * (MAX_MODEL_LEN + 1)}
    for more in ({}, {"n": 1}):
        answer = post(running, "/v1/completions", too_long | more)
        assert answer.status_code == 400, answer.text


def test_updates_arrive_and_key_values_of_old_weights_are_gone(running, tmp_path):
    before = set_weights(running, 2, tmp_path / "2", version=2)
    ask(running)  # its prompt is in the prefix cache now
    after = set_weights(running, 3, tmp_path / "3", version=3)
    trained, old = probe_of(after), probe_of(before)
    assert check_weights(probe(running), trained, old, bound=1e-3, name="vllm") < 1e-4
    answer = ask(running)
    assert set(answer.policy_versions) == {3}
    assert np.abs(logprobs_of(after, PROMPT, answer.token_ids) - answer.logprobs).max() < 1e-4


def test_a_skipped_update_is_caught(running, tmp_path):
    before = set_weights(running, 4, tmp_path)
    after = running.model(4)
    with torch.no_grad():
        for weights in after.parameters():
            weights.mul_(1.0005)
    with pytest.raises(EngineError, match="weights before the update"):
        check_weights(probe(running), probe_of(after), probe_of(before), bound=1e-3, name="vllm")


def test_vllms_own_reload_of_tied_weights_is_caught(running, tmp_path):
    before = set_weights(running, 5, tmp_path / "5")
    after = running.model(6)
    save(after, tmp_path / "6")
    order = {"method": "reload_weights", "kwargs": {"weights_path": str(tmp_path / "6")}}
    reply = post(running, "/collective_rpc", order)
    assert reply.is_success  # every status is green
    post(running, "/reset_prefix_cache", {})
    trained, old = probe_of(after), probe_of(before)
    if running.kind == "untied":
        check_weights(probe(running), trained, old, bound=1e-3, name="vllm")
        return
    with pytest.raises(EngineError, match="does not compute what the trainer does|before"):
        check_weights(probe(running), trained, old, bound=1e-3, name="vllm")


def post(running: Running, path: str, body: dict, key: str | None = None) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key or running.server.api_key}"}
    return httpx2.post(running.server.base_url + path, json=body, headers=headers, timeout=60)


def test_without_its_key_the_server_does_nothing(running):
    for path in ("/collective_rpc", "/v1/completions", "/pause", "/v1/models"):
        assert httpx2.post(running.server.base_url + path, json={}).status_code == 401
        assert post(running, path, {"method": "ajet_prepare"}, key="wrong").status_code == 401
    assert running.server.api_key not in running.log.read_text()


def test_what_is_cancelled_ends_in_the_server(running):
    async def cancel() -> None:
        params = SamplingParams(max_tokens=1900)
        call = asyncio.create_task(running.engine.generate(PROMPT, params, session="e"))
        await asyncio.sleep(0.1)
        assert not call.done()
        call.cancel()

    before = counted(running, "generation_tokens_total")
    asyncio.run(cancel())
    assert eventually(lambda: not counted(running, "num_requests_running"))
    made = counted(running, "generation_tokens_total") - before
    assert made < 1900, "the request continued in the server"
    assert ask(running).finish_reason == "length"


def counted(running: Running, name: str) -> float:
    """One of the server's metrics."""
    headers = {"Authorization": f"Bearer {running.server.api_key}"}
    text = httpx2.get(running.server.base_url + "/metrics", headers=headers).text
    [value] = re.findall(rf"^vllm:{name}\{{.*?\}} (\S+)$", text, re.MULTILINE)
    return float(value)


def test_a_killed_server_comes_back_once_with_the_weights_of_now(running, tmp_path, caplog):
    model = set_weights(running, 7, tmp_path, version=7)
    first = running.server._service.pid

    async def killed() -> Generation:
        params = SamplingParams(max_tokens=1900)
        call = asyncio.create_task(running.engine.generate(PROMPT, params, session="e"))
        await asyncio.sleep(0.1)
        os.kill(running.server._service.pid, signal.SIGKILL)
        return await call

    answer = asyncio.run(killed())
    assert running.server._service.pid != first
    assert np.abs(logprobs_of(model, PROMPT, answer.token_ids) - answer.logprobs).max() < 1e-4
    assert set(answer.policy_versions) == {7}
    assert "restarting it once: vllm ended with" in caplog.text
    with pytest.raises(EngineError, match="no vLLM server is left"):
        asyncio.run(killed())


def test_a_model_that_is_not_there_is_told_with_the_end_of_the_log(tmp_path):
    server = make_server(tmp_path / "nothing", tmp_path / "vllm.log")
    server.start()
    with pytest.raises(ServiceError, match=r"(?s)vllm ended with .*nothing"):
        server.wait_until_ready()
    server.stop()


def test_a_port_that_is_taken_is_told_before_anything_starts(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = make_server(tmp_path, tmp_path / "vllm.log", other.getsockname()[1])
        with pytest.raises(ServiceError, match=r"port \d+ cannot be used"):
            server.start()
    assert not (tmp_path / "vllm.log").exists()
