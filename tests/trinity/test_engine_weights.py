"""The real vLLM in Trinity's actor, on a CPU: whose weights it computes with.

1. After each update, from memory or from a checkpoint, its logprobs are those of the model's own
   forward; output heads tied to the embeddings or not.
2. An output head that is tied and not packed again computes with the old weights (negative
   control), and the probe tells.
3. A completion is of the asked length, with the version of the weights and their logprobs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from ray.actor import ActorHandle
from transformers import PreTrainedModel
from trinity.common.config import InferenceModelConfig
from trinity.common.constants import SyncMethod

from ajet.backbone.trinity.cpu import vllm_worker
from ajet.backbone.trinity.cpu.model import CpuPolicyModel
from ajet.backbone.trinity.cpu.vllm_worker import CpuVllmPolicyWorker
from ajet.errors import EngineError
from ajet.schema.episode import SamplingParams
from ajet.training.weight_sync_check import check_weights, probe_ids
from tests.torch.small_model import VOCABULARY
from tests.vllm.conftest import MODELS, save

pytestmark = [pytest.mark.trinity, pytest.mark.timeout(600)]

NAMESPACE = "engine-test"
PROBE = probe_ids(VOCABULARY, 0)
START_S, UPDATE_S = 300, 240


class Synchronizer:
    """Stands in for Trinity's: hands out what was put in."""

    def __init__(self) -> None:
        self.weights: dict[str, torch.Tensor] = {}

    def put(self, weights: dict[str, torch.Tensor]) -> None:
        self.weights = weights

    def get_model_state_dict_iterator(self) -> Iterator[tuple[str, torch.Tensor]]:
        for item in self.weights.items():  # noqa: UP028  Ray wants a generator of its own
            yield item


class NotPackedAgain(CpuVllmPolicyWorker):
    """vLLM's worker without our cure for tied output heads."""

    def load_model(self, *args: object, **kwargs: object) -> None:
        vllm_worker.repack_tied_head = lambda model: None
        super().load_model(*args, **kwargs)


class ModelWithoutCure(CpuPolicyModel):
    worker = f"{__name__}.NotPackedAgain"


@pytest.fixture(scope="module")
def synchronizer() -> Iterator[ActorHandle]:
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, address="local")
    options = {"name": "synchronizer", "namespace": NAMESPACE}
    yield ray.remote(Synchronizer).options(**options).remote()
    ray.shutdown()


def started(kind: type[CpuPolicyModel], model: PreTrainedModel, folder: Path) -> ActorHandle:
    save(model, folder / "model")
    config = InferenceModelConfig(
        model_path=str(folder / "model"),
        dtype="float32",
        enforce_eager=True,
        enable_chunked_prefill=False,
        gpu_memory_utilization=0.1,
        max_model_len=256,
        max_prompt_tokens=192,
        max_response_tokens=32,
        min_response_tokens=0,
        temperature=1.0,
        top_p=1.0,
        top_k=-1,
        logprobs=0,
        repetition_penalty=1.0,
        gpu_per_engine=1,
        ray_namespace=NAMESPACE,
        sync_method=SyncMethod.MEMORY,
        checkpoint_job_dir=str(folder),
    )
    actor = ray.remote(kind).options(namespace=NAMESPACE).remote(config)
    ray.get(actor.prepare.remote(), timeout=START_S)
    ray.get(actor.init_process_group.remote(), timeout=UPDATE_S)
    return actor


def update_from_memory(
    actor: ActorHandle, synchronizer: ActorHandle, model: PreTrainedModel, version: int
) -> None:
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    ray.get(synchronizer.put.remote(weights))
    ray.get(actor.sync_model_weights.remote(version, SyncMethod.MEMORY), timeout=UPDATE_S)


def update_from_checkpoint(
    actor: ActorHandle, folder: Path, model: PreTrainedModel, version: int
) -> None:
    model.save_pretrained(folder / f"global_step_{version}" / "actor")
    ray.get(actor.sync_model_weights.remote(version, SyncMethod.CHECKPOINT), timeout=UPDATE_S)


def served(actor: ActorHandle) -> list[float]:
    return ray.get(actor.logprobs.remote(PROBE, temperature=1.0), timeout=UPDATE_S).tolist()


@torch.no_grad()
def logprobs_of(model: PreTrainedModel, ids: list[int]) -> np.ndarray:
    logprobs = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    return logprobs.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()


def check(actor: ActorHandle, now: PreTrainedModel, before: PreTrainedModel) -> None:
    trained, old = logprobs_of(now, PROBE), logprobs_of(before, PROBE)
    check_weights(served(actor), trained, old, bound=1e-4, name="vllm")


@pytest.mark.parametrize("kind", MODELS)
def test_after_each_update_vllm_computes_what_the_model_does(synchronizer, tmp_path, kind):
    models = [MODELS[kind](seed) for seed in range(4)]
    actor = started(CpuPolicyModel, models[0], tmp_path)
    try:
        check(actor, models[0], models[1])
        update_from_memory(actor, synchronizer, models[1], 1)
        check(actor, models[1], models[0])
        update_from_checkpoint(actor, tmp_path, models[2], 2)
        check(actor, models[2], models[1])
        update_from_memory(actor, synchronizer, models[3], 3)
        check(actor, models[3], models[2])
        params = SamplingParams(max_tokens=9, seed=1)
        found = ray.get(actor.complete.remote(PROBE, params, 9), timeout=UPDATE_S)
        assert found.policy_versions == [3] * 9 and found.finish_reason == "length"
        expected = logprobs_of(models[3], [*PROBE, *found.token_ids])[-9:]
        np.testing.assert_allclose(found.logprobs, expected, atol=1e-4)
    finally:
        ray.get(actor.shutdown.remote(), timeout=UPDATE_S)
        ray.kill(actor)


def test_a_tied_head_that_is_not_packed_again_is_caught(synchronizer, tmp_path):
    before, now = MODELS["tied"](0), MODELS["tied"](1)
    actor = started(ModelWithoutCure, before, tmp_path)
    try:
        update_from_memory(actor, synchronizer, now, 1)
        with pytest.raises(EngineError, match="does not compute what the trainer does|before"):
            check(actor, now, before)
    finally:
        ray.get(actor.shutdown.remote(), timeout=UPDATE_S)
        ray.kill(actor)
