"""What a process may use: limits of cgroups, of both versions, wherever above it they are set."""

from __future__ import annotations

from pathlib import Path

import pytest

from ajet.diagnostics.machine import cgroup_memory, this_machine


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/", {}, (None, 0)),
        ("0::/", {"memory.max": "max", "memory.current": "5"}, (None, 0)),
        ("0::/", {"memory.max": "100", "memory.current": "5"}, (100, 5)),
        (
            "0::/a/b",
            {"a/memory.max": "70", "a/memory.current": "9", "a/b/memory.max": "max"},
            (70, 9),
        ),
        (
            "0::/a/b",
            {"a/memory.max": "70", "a/memory.current": "9", "a/b/memory.max": "50"},
            (50, 0),
        ),
        (
            "0::/",
            {"memory.max": "9", "memory.current": "7", "memory.stat": "anon 4\ninactive_file 3"},
            (9, 4),
        ),
        ("0::/not/visible/here", {"memory.max": "100", "memory.current": "5"}, (100, 5)),
        (
            "4:memory:/job\n1:cpu:/\n0::/",
            {
                "memory/job/memory.limit_in_bytes": "80",
                "memory/job/memory.usage_in_bytes": "7",
                "memory/memory.limit_in_bytes": "9223372036854771712",
            },
            (80, 7),
        ),
    ],
)
def test_the_tightest_limit_of_memory_counts(
    tmp_path: Path, membership: str, files: dict[str, str], expected: tuple[int | None, int]
) -> None:
    assert cgroup_memory(membership, write(tmp_path, files)) == expected


def test_this_machine_is_measured(tmp_path: Path) -> None:
    machine = this_machine(tmp_path / "not" / "there" / "yet")
    assert machine.run_folder == tmp_path
    assert machine.is_writable
    assert machine.loopback_error is None
    assert 0 < machine.usable_cores <= machine.cores
    assert 0 < machine.free_memory <= machine.memory
