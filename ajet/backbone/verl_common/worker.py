"""verl's policy worker with AgentJet's learning rate schedule."""

from __future__ import annotations

from tensordict import TensorDict
from verl.single_controller.base.decorator import make_nd_compute_dataproto_dispatch_fn, register
from verl.utils import tensordict_utils as tu
from verl.workers.engine_workers import ActorRolloutRefWorker


class VerlPolicyWorker(ActorRolloutRefWorker):
    """verl's worker that takes the learning rate of each step from the trainer.

    verl's own schedulers lack some of AgentJet's schedules, and count steps by themselves.
    """

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def update_actor(self, data: TensorDict) -> TensorDict:
        """Run the step's updates at the learning rate in `data`."""
        learning_rate = tu.pop(data, "learning_rate")
        for group in self.actor.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        return super().update_actor(data)
