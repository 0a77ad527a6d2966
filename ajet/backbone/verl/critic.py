"""PPO's critic: the worker of the value model, and advantages from its values."""

from __future__ import annotations

import numpy as np
import torch
import verl.utils.model
from tensordict import TensorDict
from transformers import AutoModelForTokenClassification, PretrainedConfig, PreTrainedModel
from verl.trainer.ppo.core_algos import compute_gae_advantage_return
from verl.workers.engine_workers import TrainingWorker
from verl.workers.utils.padding import response_to_nested

from ajet.schema.episode import Sample


def _value_model(
    local_path: str,
    torch_dtype: torch.dtype,
    model_config: PretrainedConfig,
    trust_remote_code: bool,
) -> PreTrainedModel:
    """Load the model with a head of one number and the attention that its config names."""
    model: PreTrainedModel = AutoModelForTokenClassification.from_pretrained(
        local_path, dtype=torch_dtype, config=model_config, trust_remote_code=trust_remote_code
    )
    return model


# verl 0.9's own function always asks for flash-attn.
verl.utils.model.load_valuehead_model = _value_model


class CriticWorker(TrainingWorker):
    """verl's worker; loading it from this module puts the replacement above in its process."""


def gae(
    rewards: torch.Tensor,
    values: torch.Tensor,
    response_mask: torch.Tensor,
    *,
    gamma: float,
    lam: float,
) -> TensorDict:
    """Advantages and returns of every response token, by verl's GAE (arXiv:1506.02438).

    The advantages are whitened over the trained tokens of all rows. Tokens that are not trained
    are skipped.

    Args:
        rewards: nested [B, response length], nonzero only at trained tokens.
        values: nested [B, response length], the value of the state before each token.
        response_mask: nested [B, response length], 1 where a token is trained.
        gamma: the discount.
        lam: GAE's lambda.
    """
    padded = TensorDict(
        {"rewards": rewards, "values": values, "mask": response_mask}, batch_size=len(rewards)
    ).to_padded_tensor()
    advantages, returns = compute_gae_advantage_return(
        token_level_rewards=padded["rewards"],
        values=padded["values"],
        response_mask=padded["mask"],
        gamma=gamma,
        lam=lam,
    )
    found = {
        "advantages": response_to_nested(advantages * padded["mask"], response_mask),
        "returns": response_to_nested(returns, response_mask),
    }
    return TensorDict(found, batch_size=len(rewards))


def keep_advantages(sample: Sample, advantages: torch.Tensor) -> None:
    """Store a sample's advantages for the run's records.

    Args:
        sample: gets the advantages, 0 where a token is not trained.
        advantages: [response length]; the response is the end of the sample.
    """
    whole = np.zeros(len(sample), np.float32)
    whole[len(sample) - len(advantages) :] = advantages.numpy()
    sample.advantages = np.where(sample.loss_mask, whole, np.float32(0))
