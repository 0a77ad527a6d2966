"""Class paths, `package.module->Class` or `path/to/file.py->Class`: reads them, loads classes."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from ajet.errors import AjetError, ConfigError, MissingExtraError, did_you_mean

ARROW = "->"
CUT_BY_SHELL = 'the shell took ">" for a redirection: quote the argument, or write ":" for "->"'
FILE_MODULE_PREFIX = "ajet_file_"
FILE_VARIABLE = "AJET_MODULE_"
"""Prefix of the environment variables that tell child processes where such a module's file is."""
EXTRAS = {
    "agentscope": "agentscope",
    "datasets": "data",
    "fastapi": "view",
    "gymnasium": "environment",
    "langchain": "langchain",
    "langchain_core": "langchain",
    "langchain_openai": "langchain",
    "loguru": "agentscope",
    "mcp": "agentscope",
    "peft": "lora",
    "ray": "ray",
    "requests": "agentscope",
    "torch": "local",
    "transformers": "local",
}
"""Module that a user's file may import -> the extra that installs it."""


def split_class_path(value: str) -> tuple[str, str] | None:
    """The module or file, and the name in it; None if the value is not a class path.

    A colon serves as well as the arrow, which a shell takes for a redirection where it is not
    quoted.
    """
    separator = ARROW if ARROW in value else ":"
    module, _, name = value.rpartition(separator)
    return (module, name) if module and name.isidentifier() else None


def class_path_in(registry: Mapping[str, str | None], name: str, key: str) -> str:
    """The class path of a registered name, or the value itself if it is a class path.

    Args:
        registry: name -> class path.
        name: the setting's value.
        key: the setting's key, for messages.

    Raises:
        ConfigError: the value is neither a registered name nor a class path.
    """
    path = registry.get(name, name)
    if path is None or "->" not in path:
        raise ConfigError(
            f'{key}: got "{name}", expected one of {", ".join(registry)} '
            "or a class path such as my_file.py->MyClass"
        )
    return path


def load_class(path: str, expected_base: type | None, key: str) -> type[Any]:
    """Load the class that a class path names.

    Modules in the current directory can be imported, as with `python -m`. Each file is loaded once
    under a unique module name, so that two files with the same base name are two modules.

    Args:
        path: the class path.
        expected_base: the required base class; None: any class.
        key: the setting's key, for messages.

    Raises:
        ConfigError: there is no such file, module or class, the class has another base, or the
            module has a wrong import or syntax. Other errors of the module are not changed.
        MissingExtraError: the module needs a library that one of our extras installs.
    """
    module, name = _load_module_of(path, key)
    found = getattr(module, name, None)
    if not inspect.isclass(found):
        classes = [name for name, _ in inspect.getmembers(module, inspect.isclass)]
        where = path.rpartition("->")[0]
        raise ConfigError(f'{key}: no class "{name}" in {where}{did_you_mean(name, classes)}')
    if expected_base and not issubclass(found, expected_base):
        raise ConfigError(f"{key}: {path} is not a subclass of {expected_base.__name__}")
    return found


def load_function(path: str, key: str) -> Callable[..., Any]:
    """Load the function that a class path names.

    Args:
        path: `package.module->function` or `path/to/file.py->function`.
        key: the setting's key, for messages.

    Raises:
        ConfigError: there is no such file, module or function, or its import fails.
        MissingExtraError: it imports a library that one of our extras installs.
    """
    where, _, name = path.rpartition("->")
    module = _load_module(where, key)
    found = getattr(module, name, None)
    if not callable(found):
        functions = [name for name, _ in inspect.getmembers(module, inspect.isfunction)]
        raise ConfigError(f'{key}: no function "{name}" in {where}{did_you_mean(name, functions)}')
    return cast(Callable[..., Any], found)


def find_function(path: str, key: str) -> Callable[..., Any] | None:
    """Load the plain function that a class path names; None if it names something else.

    Raises:
        ConfigError: the path or its module is wrong, as for `load_class`.
        MissingExtraError: as for `load_class`.
    """
    module, name = _load_module_of(path, key)
    found = getattr(module, name, None)
    return found if inspect.isfunction(found) else None


def require_call(function: Callable[..., Any], arguments: tuple[Any, ...], called: str) -> None:
    """Check that a function of the user takes the arguments that it will be called with.

    Raises:
        ConfigError: it does not.
    """
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        raise ConfigError(f"{called} cannot be called: {error}") from error


def class_path_of(cls: type) -> str:
    """The class path of a class; uses its file if its module cannot be imported by name.

    Raises:
        ConfigError: the class is defined inside a function or class, or in no file.
    """
    name = cls.__qualname__
    if "." in name:
        raise ConfigError(f"{name}: expected a class at the top level of its file")
    if cls.__module__ != "__main__" and not cls.__module__.startswith(FILE_MODULE_PREFIX):
        return f"{cls.__module__}->{name}"
    file = getattr(sys.modules[cls.__module__], "__file__", None)
    if not file:
        raise ConfigError(f"{name}: expected a class that is defined in a file")
    return f"{Path(file).resolve()}->{name}"


def working_directory() -> str | None:
    """The current directory; None if it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _load_module_of(path: str, key: str) -> tuple[ModuleType, str]:
    """The module in a class path, and the name in that module."""
    parts = split_class_path(path)
    if parts is None:
        hint = f"; {CUT_BY_SHELL}" if path.endswith("-") else ""
        raise ConfigError(
            f'{key}: got "{path}", expected "package.module->Class" or "path/to/file.py->Class"'
            f"{hint}"
        )
    where, name = parts
    return _load_module(where, key), name


def _load_module(where: str, key: str) -> ModuleType:
    here = working_directory()
    if here and here not in sys.path:
        sys.path.insert(0, here)
    try:
        return _load_file(where, key) if where.endswith(".py") else importlib.import_module(where)
    except AjetError:
        raise
    except SystemExit as error:
        raise ConfigError(
            f"{key}: {where} ends the program while it is imported (SystemExit: {error.code}); "
            'put what a script does under  if __name__ == "__main__":'
        ) from error
    except (ImportError, SyntaxError) as error:
        missing = str(getattr(error, "name", "")).partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and missing in EXTRAS:
            raise MissingExtraError(missing, EXTRAS[missing]) from error
        hint = _module_hint(where) if "attempted relative import" in str(error) else ""
        raise ConfigError(f"{key}: cannot import {where}: {_in_one_line(error)}{hint}") from error


def _module_hint(where: str) -> str:
    """How to name a file that imports relatively, which only a module of a package can."""
    path = Path(where).resolve()
    packages: list[str] = []
    for folder in path.parents:
        if not (folder / "__init__.py").is_file():
            break
        packages.insert(0, folder.name)
    if not packages:
        return f"; write `import` with the names of the files in {path.parent}, without dots"
    module = ".".join([*packages, path.stem])
    return (
        f"; name it as a module of its package, {module}->NAME, from {path.parents[len(packages)]}"
    )


def _in_one_line(error: ImportError | SyntaxError) -> str:
    """The error, with the file and line where the import stopped."""
    text = f"{type(error).__name__}: {error.msg}"
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {text}" if error.filename else text
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno}: " for frame in frames if _is_of_user(frame)]
    return f"{places[-1] if places else ''}{text}"


def _is_of_user(frame: traceback.FrameSummary) -> bool:
    return frame.filename not in (__file__, importlib.__file__) and frame.filename[0] != "<"


def _load_file(where: str, key: str) -> ModuleType:
    path = Path(where).resolve()
    if not path.is_file():
        raise ConfigError(f"{key}: there is no file {where}")
    main = sys.modules["__main__"]
    if getattr(main, "__file__", None) and Path(str(main.__file__)).resolve() == path:
        return main  # a script that names its own class: loading it again would run it again
    if str(path.parent) not in sys.path:  # modules beside it can be imported, as by `python FILE`
        sys.path.append(str(path.parent))
    name = f"{FILE_MODULE_PREFIX}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    os.environ[f"{FILE_VARIABLE}{name}"] = str(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader, "a .py file always has a loader"
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _FileModules(MetaPathFinder):
    """Finds the modules of users' files in a child that `multiprocessing` has spawned.

    A function of a workflow's file is pickled by the name of its module, which no path leads to.
    """

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        """The spec of a file that the parent process has loaded; None for any other module."""
        file = os.environ.get(f"{FILE_VARIABLE}{fullname}")
        return importlib.util.spec_from_file_location(fullname, file) if file else None


sys.meta_path.append(_FileModules())
