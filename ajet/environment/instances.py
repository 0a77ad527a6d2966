"""The instances that a service has open, and their leases."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True, eq=False)
class Instance:
    """One instance. `lock` is held while the user's code works on it."""

    instance_id: str
    task_id: str
    expires_s: float
    """`time.monotonic()` when its lease ends."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    value: Any = None
    """The user's object."""
    is_made: bool = False
    """Whether `value` is there: False until `create` has returned."""
    is_released: bool = False
    last_key: str | None = None
    """Idempotency key of the newest call that changed it."""
    last_answer: bytes = b""
    """The answer to that call."""


class InstanceTable:
    """Belongs to one event loop."""

    def __init__(self, *, max_instances: int, lease_s: float) -> None:
        self._max_instances = max_instances
        self._lease_s = lease_s
        self._instances: dict[str, Instance] = {}
        self.num_closing = 0
        """Instances that no call finds any more, but whose release is not done."""

    @property
    def num_open(self) -> int:
        """Instances that hold something, those included that are being made or released."""
        return len(self._instances) + self.num_closing

    @property
    def is_full(self) -> bool:
        """Whether there is no place for another one."""
        return self.num_open >= self._max_instances

    def add(self, instance_id: str, task_id: str) -> Instance:
        """A new entry, whose lease begins now."""
        assert instance_id not in self._instances, "the caller looked"
        instance = Instance(
            instance_id=instance_id, task_id=task_id, expires_s=time.monotonic() + self._lease_s
        )
        self._instances[instance_id] = instance
        return instance

    def find(self, instance_id: str) -> Instance | None:
        """The instance, its lease renewed."""
        instance = self._instances.get(instance_id)
        if instance is not None:
            instance.expires_s = time.monotonic() + self._lease_s
        return instance

    def remove(self, instance: Instance) -> None:
        """From now on no call finds it."""
        instance.is_released = True
        self._instances.pop(instance.instance_id, None)

    def expired(self) -> list[Instance]:
        """Those whose lease has ended and that no call is working on."""
        now = time.monotonic()
        return [
            instance
            for instance in self._instances.values()
            if instance.expires_s < now and not instance.lock.locked()
        ]

    def all(self) -> list[Instance]:
        """Every instance."""
        return list(self._instances.values())
