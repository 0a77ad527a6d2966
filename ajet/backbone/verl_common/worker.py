"""The worker of a rank: verl's, with the learning rate that the run's schedule says."""

from __future__ import annotations

from tensordict import TensorDict
from verl.single_controller.base.decorator import make_nd_compute_dataproto_dispatch_fn, register
from verl.utils import tensordict_utils as tu
from verl.workers.engine_workers import ActorRolloutRefWorker


class VerlPolicyWorker(ActorRolloutRefWorker):
    """verl's schedules are fewer than ours, and count what they did instead of being told."""

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def update_actor(self, data: TensorDict) -> TensorDict:
        """Run the step's updates at the learning rate in `data`."""
        learning_rate = tu.pop(data, "learning_rate")
        for group in self.actor.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        return super().update_actor(data)
