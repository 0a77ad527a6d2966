"""Measures the structure of the package: cycles, sizes, names, and the way of one task.

    python -m tests.structure --json                  # this checkout
    python -m tests.structure --json --root DIR       # another one, for a comparison
    python -m tests.structure --json --static         # without running a task (no torch needed)

What each figure counts:

- `cycles`: groups of files that import each other, directly or through others. Imports inside
  functions and under `TYPE_CHECKING` count.
- `package_cycles`: the same between packages, that is, what stands directly below `ajet/`.
- `layers`: length of the longest chain of packages that import each other.
- `files_on_the_way`: see `tests/way_of_a_task.py`.
- `short_files`: files of fewer than 40 lines, without `__init__.py`.
- `broad_handlers`: files that catch `Exception`, alone or in a tuple, with a bare `except`, or
  through `contextlib.suppress`. Handlers for `BaseException` that clean up are not counted.
- `double_class_names`: class names that two or more classes at the top of a module have.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WAY_SCRIPT = Path(__file__).with_name("way_of_a_task.py")

SHORT = 40
"""Lines; a file with fewer must earn its hop."""

GOALS = {
    "cycles": 0,
    "package_cycles": 0,
    "files_on_the_way": 45,
    "short_files": 30,
    "broad_handlers": 1,
    "double_class_names": 0,
}

Graph = dict[str, set[str]]
"""Module name to the names of the modules that it imports."""


def read_sources(root: Path) -> dict[str, str]:
    """Path below the root to source text, of every file of the package."""
    paths = sorted((root / "ajet").rglob("*.py"))
    return {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in paths}


def module_name(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def import_graph(sources: Mapping[str, str]) -> Graph:
    """Who imports whom, by any import statement wherever it stands in the file."""
    modules = {module_name(path) for path in sources}
    graph: Graph = {}
    for path, source in sources.items():
        module = module_name(path)
        graph[module] = set(_imported(source, modules)) - {module}
    return graph


def _imported(source: str, modules: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if submodule in modules:
                    yield submodule
                elif node.module in modules:
                    yield node.module


def package_graph(graph: Graph) -> Graph:
    """The graph between what stands directly below the package."""
    packages: Graph = defaultdict(set)
    for module, imported in graph.items():
        packages[_package(module)] |= {_package(name) for name in imported}
    return {name: imported - {name} for name, imported in packages.items()}


def _package(module: str) -> str:
    return ".".join(module.split(".")[:2])


def cycles(graph: Graph) -> list[list[str]]:
    """Groups of modules each of which reaches every other one of its group."""
    reached = {module: _reached_from(module, graph) for module in graph}
    groups = {
        frozenset(other for other in reached[module] if module in reached.get(other, set()))
        for module in graph
        if module in reached[module]
    }
    return sorted(sorted(group) for group in groups)


def _reached_from(start: str, graph: Graph) -> set[str]:
    reached: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        module = ahead.pop()
        if module not in reached:
            reached.add(module)
            ahead.extend(graph.get(module, ()))
    return reached


def longest_chain(graph: Graph) -> int:
    """Number of modules in the longest chain of imports; 0 where there are cycles."""
    if cycles(graph):
        return 0
    lengths: dict[str, int] = {}

    def length(module: str) -> int:
        if module not in lengths:
            lengths[module] = 1 + max(map(length, graph[module]), default=0)
        return lengths[module]

    return max(map(length, graph), default=0)


def short_files(sources: Mapping[str, str]) -> list[str]:
    return [
        path
        for path, source in sources.items()
        if not path.endswith("__init__.py") and len(source.splitlines()) < SHORT
    ]


def double_class_names(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """Each name that several classes have, and the files that they stand in."""
    places: dict[str, list[str]] = defaultdict(list)
    for path, source in sources.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path)
    return {name: paths for name, paths in sorted(places.items()) if len(paths) > 1}


def broad_handlers(sources: Mapping[str, str]) -> list[str]:
    """Files that catch any `Exception`."""
    return [path for path, source in sources.items() if any(map(_is_broad, _nodes(source)))]


def _nodes(source: str) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(source))


def _is_broad(node: ast.AST) -> bool:
    if isinstance(node, ast.ExceptHandler):
        return node.type is None or _names_exception(node.type)
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
        called = name.id if isinstance(name, ast.Name) else name
        return called == "suppress" and any(map(_names_exception, node.args))
    return False


def _names_exception(node: ast.expr) -> bool:
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(isinstance(part, ast.Name) and part.id == "Exception" for part in parts)


def files_on_the_way(root: Path) -> dict[str, Any]:
    """What `way_of_a_task.py` prints for the package of this root, run in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-P", str(WAY_SCRIPT), str(root)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise SystemExit(f"error: the traced run failed\n{result.stderr}")
    way: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return way


def measure(root: Path) -> dict[str, Any]:
    """Everything that can be read from the sources alone."""
    sources = read_sources(root)
    graph = import_graph(sources)
    packages = package_graph(graph)
    del packages["ajet"]  # `ajet/__init__.py` imports names of every layer, on first use
    lines = sorted(
        len(source.splitlines())
        for path, source in sources.items()
        if not path.endswith("__init__.py")
    )
    return {
        "files": len(lines),
        "lines": sum(lines),
        "median_lines": lines[len(lines) // 2],
        "cycles": cycles(graph),
        "package_cycles": cycles(packages),
        "layers": longest_chain(packages),
        "short_files": short_files(sources),
        "broad_handlers": broad_handlers(sources),
        "double_class_names": double_class_names(sources),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="a checkout of the project")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--static", action="store_true", help="do not run a task")
    options = parser.parse_args()
    root = options.root.resolve()
    found = measure(root)
    if not options.static:
        found.update(files_on_the_way(root))
    if options.json:
        print(json.dumps({**found, "goals": GOALS}))
        return
    for name, value in found.items():
        size = value if isinstance(value, int) else len(value)
        goal = f"  (goal: at most {GOALS[name]})" if name in GOALS else ""
        print(f"{name:20} {size:>6}{goal}")


if __name__ == "__main__":
    main()
