"""verl's view of a machine without accelerators."""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry


class _CpuModule(types.ModuleType):
    """`torch.cpu`, with what verl calls of `torch.cuda` without asking."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    is_available = staticmethod(lambda: True)
    empty_cache = ipc_collect = staticmethod(lambda: None)
    memory_allocated = memory_reserved = staticmethod(lambda *_: 0)
    max_memory_allocated = max_memory_reserved = staticmethod(lambda *_: 0)
    mem_get_info = staticmethod(lambda *_: (0, 0))
    get_device_name = staticmethod(lambda *_: "CPU")
    get_rng_state = staticmethod(lambda *_: torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, *_: torch.set_rng_state(state))
    set_device = staticmethod(lambda *_: None)


_MODULE = _CpuModule("ajet.backbone.verl.cpu.device")


@PlatformRegistry.register(platform="cpu")
class CpuPlatform(PlatformBase):
    """Chosen by `VERL_PLATFORM=cpu`, never by itself."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _MODULE

    def is_available(self) -> bool:
        """Always."""
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        """Not to be found by looking for hardware."""
        return False

    def current_device(self) -> torch.device:
        """Where `tensor.to` goes."""
        return torch.device("cpu")

    def device_count(self) -> int:
        """One."""
        return 1

    def set_device(self, device_index: int) -> None:
        """There is no choice."""

    def synchronize(self, device_index: int | None = None) -> None:
        """Nothing runs aside."""

    def manual_seed(self, seed: int) -> None:
        """Torch's."""
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def set_allocator_settings(self, settings: str) -> None:
        """There are none."""

    def empty_cache(self) -> None:
        """There is none."""

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        """None."""
        return None, None

    def communication_backend_name(self) -> str:
        """Of torch.distributed."""
        return "gloo"

    def visible_devices_envvar(self) -> str:
        """A name that nothing reads."""
        return "AJET_VISIBLE_CPUS"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        """Nothing."""
        yield

    def profiler_start(self) -> None:
        """Nothing."""

    def profiler_stop(self) -> None:
        """Nothing."""

    def ray_resource_name(self) -> str:
        """Logical slots: Ray does not look whether there is hardware."""
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        """Ray must not hide devices that are not there."""
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        """Weights go through shared memory."""
        return False

    def cudart(self) -> None:
        """None."""
