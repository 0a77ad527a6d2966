"""vLLM as the engine of the local backbone, in processes of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from ajet.backbone.local.policy import LocalPolicy
from ajet.config.sections.rollout import RolloutConfig
from ajet.engine.vllm.engine import VllmEngine
from ajet.engine.vllm.server import VllmServer, vllm_command
from ajet.service.service import ServiceRecord
from ajet.training.weight_sync_check import check_weights, probe_ids


class VllmServing:
    """Serves the policy from vLLM servers: started by the run, or running already.

    An update writes the weights to the run folder and makes every server read them. Afterwards a
    probe's logprobs must agree with the trainer's.

    Args:
        policy: the model that is trained.
        settings: section `ajet.rollout`.
        run_folder: for the servers' logs and the weights.
        policy_version: version of the policy's weights now.
        are_base_weights: whether the weights are those in the policy's folder, which servers load.
        logprob_diff_bound: bound on the difference of engine and trainer in float32, nats.
        seed: draws the probe.
        on_started: called with the record of each server process.

    Raises:
        ServiceError: a server did not start.
        EngineError: a server has other weights than the trainer.
    """

    lockstep_missed = 0

    def __init__(
        self,
        policy: LocalPolicy,
        settings: RolloutConfig,
        *,
        run_folder: Path,
        policy_version: int,
        are_base_weights: bool,
        logprob_diff_bound: float,
        seed: int,
        on_started: Callable[[ServiceRecord], None] | None = None,
    ) -> None:
        self._policy = policy
        self._folder = run_folder / "engine_weights"
        self._bound = logprob_diff_bound
        self._probe = probe_ids(policy.model.config.get_text_config().vocab_size, seed)
        self._trained: np.ndarray | None = None
        vllm = settings.vllm
        servers: list[VllmServer] = []
        urls = [vllm.base_url] if isinstance(vllm.base_url, str) else vllm.base_url or []
        if not urls:
            servers = _servers(policy, settings, run_folder / "logs", on_started)
        for server in servers:
            server.start()
        self.engine = VllmEngine(
            servers=servers,
            urls=urls,
            api_key=os.environ.get(vllm.api_key_env),
            max_model_len=settings.max_model_len,
            policy_version=policy_version,
            update_timeout_s=vllm.update_timeout_s,
        )
        try:
            if are_base_weights:
                self._check()
            else:
                self.publish(policy_version)
        except BaseException:
            self.close()
            raise

    def begin_phase(self) -> None:
        """Nothing to do: vLLM's KV cache is valid as long as the weights stay."""

    def publish(self, policy_version: int) -> dict[str, float]:
        """Update the weights of every server and check them by a probe.

        Raises:
            EngineError: a server did not load the weights.
        """
        folder = self._folder / f"version_{policy_version:06d}"
        adapter = self._policy.adapter
        merged = None if adapter is None else adapter.merged_state()
        self._policy.model.save_pretrained(folder, state_dict=merged)
        asyncio.run(self.engine.update_weights(folder.absolute(), policy_version))
        for old in self._folder.iterdir():
            if old != folder:
                shutil.rmtree(old)
        return {"sync/probe_diff_max": self._check()}

    def close(self) -> None:
        """Stop the servers that this run started."""
        asyncio.run(self.engine.aclose())
        shutil.rmtree(self._folder, ignore_errors=True)

    def _check(self) -> float:
        trained = _logprobs(self._policy.model, self._probe)
        # bfloat16 rounds 2 ** 16 times more coarsely: logprobs of rare ids differ by tenths.
        bound = self._bound if self._policy.model.dtype.itemsize >= 4 else 0.5
        served = asyncio.run(self.engine.prompt_logprobs(self._probe))
        before, self._trained = self._trained, trained
        return max(
            check_weights(row, trained, before, bound=bound, name=f"vLLM server {number}")
            for number, row in enumerate(served)
        )


def _servers(
    policy: LocalPolicy,
    settings: RolloutConfig,
    logs: Path,
    on_started: Callable[[ServiceRecord], None] | None,
) -> list[VllmServer]:
    model, vllm = policy.model, settings.vllm
    options = dict(vllm.options)
    first_port = options.pop("port", None)
    command, env = vllm_command(
        policy.folder.absolute(),
        python=vllm.python,
        device="cpu" if model.device.type == "cpu" else "cuda",
        dtype=str(model.dtype).removeprefix("torch."),
        max_model_len=settings.max_model_len or model.config.max_position_embeddings,
        max_num_seqs=settings.max_num_seqs,
        num_threads=torch.get_num_threads(),
        kv_cache_gb=vllm.kv_cache_gb,
        options=options,
    )
    return [
        VllmServer(
            f"vllm-{number}",
            command,
            env=env,
            port=first_port and first_port + number,
            log=logs / f"vllm-{number}.log",
            start_timeout_s=vllm.start_timeout_s,
            on_started=on_started,
        )
        for number in range(vllm.num_engines)
    ]


@torch.no_grad()
def _logprobs(model: PreTrainedModel, ids: list[int]) -> np.ndarray:
    """Logprobs [L - 1] of all ids but the first, nats."""
    rows = torch.tensor([ids], device=model.device)
    logprobs = model(input_ids=rows).logits[0, :-1].float().log_softmax(-1)
    found: np.ndarray = logprobs.gather(1, rows[0, 1:, None])[:, 0].cpu().numpy()
    return found
