"""What our files ask of a backbone's libraries, held against the versions that are installed.

python -m tests.install.contract verl|trinity

Run in an environment with that backbone. It reads our sources and checks, for every file that the
backbone loads on a GPU:

1. The file can be imported, and every name that it imports from a library is there.
2. Every call of such a name fits the signature that the library has.
3. Every method that our classes override takes the arguments that the library's own takes, and
   every method of a library's class that ours call through `self` or `super()` is there.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ajet

ROOT = Path(ajet.__file__).resolve().parents[1]
LIBRARIES = ("accelerate", "omegaconf", "ray", "tensordict", "torch", "transfer_queue",
             "transformers", "trinity", "verl", "vllm")  # fmt: skip
COMMON = (
    "backbone/ray_common",
    "backbone/verl_common",
    "engine/embedded",
    "engine/vllm",
    "training",
)
FOLDERS = {"verl": ("backbone/verl", *COMMON), "trinity": ("backbone/trinity", *COMMON)}


def files(backbone: str) -> Iterator[Path]:
    """The files that the backbone loads on a GPU: not those in `cpu/`, which adapt it to a CPU."""
    for folder in FOLDERS[backbone]:
        for path in sorted((ROOT / "ajet" / folder).rglob("*.py")):
            if "cpu" not in path.relative_to(ROOT).parts:
                yield path


def problems(path: Path) -> Iterator[str]:
    """What the file asks for that the installed libraries do not have."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    try:
        module = importlib.import_module(name)
        names = dict(_imported(tree))
    except (ImportError, AttributeError) as error:
        yield f"{name}: {type(error).__name__}: {error}"
        return
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        target = names.get(ast.unparse(call.func))
        if target is not None and (reason := _misfit(target, call)):
            yield f"{name}:{call.lineno}: {ast.unparse(call.func)}: {reason}"
    for node in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        cls = getattr(module, node.name, None)
        if inspect.isclass(cls):
            yield from (f"{name}: {problem}" for problem in _class_problems(node, cls))


def _imported(tree: ast.AST) -> Iterator[tuple[str, Any]]:
    """Every name that comes from a library, with the object.

    Raises:
        AttributeError: a module has no such name.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and _is_library(node.module):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                try:
                    found = getattr(module, alias.name)
                except AttributeError:
                    found = importlib.import_module(f"{node.module}.{alias.name}")
                yield alias.asname or alias.name, found
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _is_library(alias.name):
                    importlib.import_module(alias.name)


def _is_library(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] in LIBRARIES


def _misfit(target: Any, call: ast.Call) -> str:
    """Why the arguments do not fit the callable; empty where they do or nothing is known."""
    if any(isinstance(arg, ast.Starred) for arg in call.args):
        return ""
    try:
        signature = inspect.signature(target)
        keywords = {word.arg: None for word in call.keywords if word.arg}
        has_mapping = any(word.arg is None for word in call.keywords)
        bind = signature.bind_partial if has_mapping else signature.bind
        bind(*call.args, **keywords)
    except TypeError as error:
        return f"{error} in {getattr(target, '__name__', target)}{signature}"
    except ValueError:
        return ""  # a builtin without a signature
    return ""


def _class_problems(node: ast.ClassDef, cls: type) -> Iterator[str]:
    bases = [base for base in cls.__mro__[1:] if _is_library(base.__module__)]
    if not bases:
        return
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for method in [item.name for item in node.body if isinstance(item, functions)]:
        theirs = next((vars(base)[method] for base in bases if method in vars(base)), None)
        if theirs is not None and not method.startswith("__"):
            yield from _override_problems(node.name, method, vars(cls)[method], theirs)
    for item in ast.walk(node):
        if isinstance(item, ast.Call) and isinstance(item.func, ast.Attribute):
            through = ast.unparse(item.func.value)
            if through != "super()":
                continue
            name = item.func.attr
            target = next((getattr(base, name) for base in bases if hasattr(base, name)), None)
            reason = "is not there" if target is None else _misfit_method(target, item)
            if reason:
                yield f"{node.name}: super().{name}: {reason}"


def _misfit_method(target: Any, call: ast.Call) -> str:
    if inspect.ismethod(target):  # a class method has its first argument already
        return _misfit(target, call)
    padded = ast.Call(func=call.func, args=[ast.Constant(None), *call.args], keywords=call.keywords)
    return _misfit(target, padded)


def _override_problems(cls: str, method: str, ours: Any, theirs: Any) -> Iterator[str]:
    ours, theirs = (getattr(item, "__func__", item) for item in (ours, theirs))
    if not (callable(ours) and callable(theirs)):
        return
    takes = inspect.signature(ours).parameters.values()
    names = {parameter.name for parameter in takes}
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in takes):
        return
    positional = any(parameter.kind == parameter.VAR_POSITIONAL for parameter in takes)
    for parameter in inspect.signature(theirs).parameters.values():
        is_variable = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        is_optional = is_variable or parameter.default is not parameter.empty
        if not (is_optional or positional or parameter.name in names):
            yield f"{cls}.{method}: the library's argument {parameter.name} is missing"


def main(backbone: str) -> int:
    """Print every problem; the exit code."""
    found = [problem for path in files(backbone) for problem in problems(path)]
    for problem in found:
        sys.stdout.write(f"{problem}\n")
    sys.stdout.write(f"{len(list(files(backbone)))} files, {len(found)} problems\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
