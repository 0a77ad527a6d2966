"""PPO's critic: verl's worker of a value model, and advantages from its values."""

from __future__ import annotations

import numpy as np
import torch
import verl.utils.model
from tensordict import TensorDict
from transformers import AutoModelForTokenClassification, PretrainedConfig, PreTrainedModel
from verl.trainer.ppo.core_algos import compute_gae_advantage_return
from verl.workers.engine_workers import TrainingWorker
from verl.workers.utils.padding import response_to_nested

from ajet.schema.sample import Sample


def _value_model(
    local_path: str,
    torch_dtype: torch.dtype,
    model_config: PretrainedConfig,
    trust_remote_code: bool,
) -> PreTrainedModel:
    """The model with a head of one number, and the attention that is configured."""
    return AutoModelForTokenClassification.from_pretrained(
        local_path, dtype=torch_dtype, config=model_config, trust_remote_code=trust_remote_code
    )


# verl's own asks for flash-attn, whatever is configured.
verl.utils.model.load_valuehead_model = _value_model


class CriticWorker(TrainingWorker):
    """verl's, in a process where the function above is in place."""


def gae(
    rewards: torch.Tensor,
    values: torch.Tensor,
    response_mask: torch.Tensor,
    *,
    gamma: float,
    lam: float,
) -> TensorDict:
    """Advantages and returns of every token, as verl computes them (arXiv:1506.02438).

    The advantages are whitened over the trained tokens of all rows. Tokens that are not trained are
    passed over.

    Args:
        rewards: nested [B, length of the response], at trained tokens.
        values: nested, of the state before each token.
        response_mask: nested, 1 where a token is trained.
        gamma: discount.
        lam: lambda.
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
    """For the record: those of the response, which is the sample's end."""
    whole = np.zeros(len(sample), np.float32)
    whole[len(sample) - len(advantages) :] = advantages.numpy()
    sample.advantages = np.where(sample.loss_mask, whole, np.float32(0))
