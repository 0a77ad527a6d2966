"""Who may import whom.

1. A module imports only modules of lower layers, or of its own package (or module).
2. Heavy libraries stay out of `import ajet`, of `ajet --help` and of every configuration error.
3. A library that one place is about is imported in that place only.
4. No two files import each other, in any way, and few files are short (`tests/structure.py`).
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import structure

ROOT = Path(__file__).resolve().parents[2]

LAYERS = [
    ["ajet.errors"],
    [
        "ajet.schema",
        "ajet.class_path",
        "ajet.debug_point",
        "ajet.boundary",
        "ajet.background_loop",
        "ajet.model_files",
    ],
    ["ajet.service", "ajet.sandbox"],
    ["ajet.config", "ajet.context_tracker", "ajet.engine"],
    ["ajet.environment"],
    ["ajet.model_client"],
    ["ajet.task_filters"],
    ["ajet.gateway", "ajet.task_reader", "ajet.task_judge", "ajet.algorithm"],
    ["ajet.tuner"],
    ["ajet.workflow"],
    ["ajet.task_runner"],
    ["ajet.monitor"],
    ["ajet.task_rollout"],
    ["ajet.data_generation", "ajet.tracing"],
    ["ajet.training"],
    ["ajet.backbone"],
    ["ajet.launcher"],
    ["ajet.diagnostics", "ajet.replay", "ajet.viewer", "ajet.evaluation"],
    ["ajet.export", "ajet.serving"],
    ["ajet.commands", "ajet.job", "ajet.testing"],
    ["ajet.copilot", "ajet.utils"],
    ["ajet.cli"],
    ["ajet.__main__"],
    ["ajet"],
]
"""Lowest first; what stands side by side does not import each other."""

LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}

HOMES = {
    "torch": (
        "ajet/engine/embedded/",
        "ajet/engine/vllm/worker.py",
        "ajet/algorithm/",
        "ajet/training/model_folder.py",
        "ajet/backbone/local/",
        "ajet/backbone/verl_common/",
        "ajet/backbone/verl/",
        "ajet/backbone/trinity/",
    ),
    "peft": ("ajet/engine/embedded/", "ajet/backbone/verl_common/"),
    "vllm": (
        "ajet/engine/vllm/token_fast_path.py",
        "ajet/engine/vllm/worker.py",
        "ajet/backbone/verl/cpu/",
        "ajet/backbone/trinity/",
    ),
    "transformers": (
        "ajet/engine/embedded/",
        "ajet/backbone/trinity/",
        "ajet/backbone/local/",
        "ajet/backbone/verl/",
        "ajet/backbone/verl_common/",
        "ajet/context_tracker/chat_format.py",
    ),
    "agentscope": (
        "ajet/gateway/clients/agentscope_model.py",
        "ajet/utils/robust_dashscope.py",
    ),
    "langchain_openai": ("ajet/gateway/clients/", "ajet/tuner.py"),
    "openai": (
        "ajet/gateway/clients/",
        "ajet/gateway/upstream.py",
        "ajet/gateway/recorded_upstream.py",
        "ajet/model_client/",
        "ajet/task_rollout/dashscope_llm_bridge.py",
        "ajet/tuner.py",
    ),
    "fastapi": ("ajet/gateway/server/", "ajet/environment/serving.py", "ajet/viewer/server/"),
    "starlette": ("ajet/gateway/server/", "ajet/environment/serving.py", "ajet/viewer/server/"),
    "uvicorn": ("ajet/gateway/server/", "ajet/environment/serving.py", "ajet/viewer/server/"),
    "datasets": (
        "ajet/task_reader/huggingface_dat_repo.py",
        "ajet/task_reader/dataset_files.py",
    ),
    "gymnasium": ("ajet/environment/gymnasium_environment.py",),
    "tenacity": ("ajet/environment/client.py", "ajet/model_client/attempts.py"),
    "httptools": ("ajet/gateway/server/",),
    "math_verify": ("ajet/task_judge/",),
    "regex": ("ajet/task_judge/",),
    "scipy": ("ajet/replay/",),
    "matplotlib": ("ajet/monitor/",),
    "renderers": ("ajet/context_tracker/",),
    "typer": ("ajet/cli.py", "ajet/commands/"),
    "verl": ("ajet/backbone/verl_common/", "ajet/backbone/verl/", "ajet/backbone/trinity/"),
    "trinity": ("ajet/backbone/trinity/",),
    "hydra": ("ajet/backbone/verl/",),
    "omegaconf": ("ajet/backbone/verl/", "ajet/backbone/trinity/"),
    "tensordict": ("ajet/backbone/verl_common/", "ajet/backbone/verl/", "ajet/backbone/trinity/"),
    "transfer_queue": ("ajet/backbone/verl/",),
    "ray": ("ajet/backbone/ray_common/", "ajet/backbone/verl/", "ajet/backbone/trinity/"),
}
MAX_SHORT_FILES = 30
"""Files of fewer than 40 lines, such as protocols and registered classes. Join a file that has one
user with that user."""

HEAVY = [
    "torch",
    "transformers",
    "peft",
    "ray",
    "vllm",
    "verl",
    "trinity",
    "agentscope",
    "langchain_openai",
    "fastapi",
    "uvicorn",
    "openai",
    "renderers",
    "math_verify",
    "matplotlib",
    "pyarrow",
    "datasets",
]


def sources() -> list[tuple[Path, str]]:
    paths = sorted((ROOT / "ajet").rglob("*.py"))
    return [(path.relative_to(ROOT), path.read_text()) for path in paths]


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imported_names(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def unit_of(module: str) -> str:
    """The package (or module directly under `ajet`) that a module belongs to."""
    parts = module.split(".")
    return ".".join(parts[:2])


def forbidden(module: str, source: str) -> list[str]:
    me = unit_of(module)
    return [
        name
        for name in imported_names(source)
        if name.partition(".")[0] == "ajet"
        if unit_of(name) != me and LEVELS[unit_of(name)] >= LEVELS[me]
    ]


def strangers(path: str, source: str) -> list[str]:
    """Libraries that are imported away from their home."""
    tops = {name.partition(".")[0] for name in imported_names(source)}
    return sorted(top for top in tops if top in HOMES and not path.startswith(HOMES[top]))


def test_a_module_imports_only_lower_layers():
    found = {str(path): forbidden(module_name(path), text) for path, text in sources()}
    assert {path: names for path, names in found.items() if names} == {}


def test_a_library_is_imported_only_where_it_is_at_home():
    found = {str(path): strangers(str(path), text) for path, text in sources()}
    assert {path: names for path, names in found.items() if names} == {}


def test_the_check_for_libraries_sees_a_stranger():
    assert strangers("ajet/monitor/sinks.py", "def f():\n    import torch.nn") == ["torch"]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("ajet.schema.task", "from ajet.config.sections.root import RootConfig"),
        ("ajet.config.sections.root", "import ajet.engine.base"),
        ("ajet.task_reader.x", "def f():\n    from ajet.gateway import tuner"),
        ("ajet.engine.base", "from ajet import Workflow"),
    ],
)
def test_the_layer_check_sees_an_import_that_goes_up_or_sideways(module, source):
    assert forbidden(module, source) != []


def heavy_modules_after(code: str) -> list[str]:
    """Which heavy libraries a fresh interpreter has after the code."""
    script = (
        f"{code}\nimport sys, json\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded: list[str] = json.loads(result.stdout.splitlines()[-1])
    return loaded


@pytest.mark.parametrize(
    "code",
    [
        "import ajet",
        "from ajet import Workflow, WorkflowTask, WorkflowOutput, Task, bp",
        "import ajet.job",
        "import ajet.cli",
        "import ajet.launcher.launch",
    ],
)
def test_the_front_of_the_package_loads_nothing_heavy(code):
    assert heavy_modules_after(code) == []


def test_the_check_for_heavy_modules_sees_one():
    assert heavy_modules_after("import pyarrow") == ["pyarrow"]


def command_line(arguments: list[str]) -> str:
    return (
        "import sys\nfrom ajet.cli import main\n"
        f"sys.argv = {['ajet', *arguments]!r}\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print('exit code', end.code)\n"
    )


def test_help_and_configuration_errors_load_nothing_heavy(tmp_path):
    (tmp_path / "bad.yaml").write_text("ajet: {rollout: {temprature: 1}}\n")
    assert heavy_modules_after(command_line(["--help"])) == []
    assert heavy_modules_after(command_line(["--conf", str(tmp_path / "bad.yaml")])) == []
    assert heavy_modules_after(command_line(["--conf", str(tmp_path / "missing.yaml")])) == []


def test_no_two_files_import_each_other():
    found = structure.cycles(structure.import_graph(structure.read_sources(ROOT)))
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "from ajet.b import f",
        "def g():\n    from ajet import b",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ajet.b",
    ],
)
def test_the_check_for_cycles_sees_one_through_a_third_file(source):
    sources = {
        "ajet/__init__.py": "",
        "ajet/a.py": source,
        "ajet/b.py": "import ajet.c",
        "ajet/c.py": "from ajet.a import g",
        "ajet/d.py": "import ajet.a",
    }
    assert structure.cycles(structure.import_graph(sources)) == [["ajet.a", "ajet.b", "ajet.c"]]
    sources["ajet/c.py"] = ""
    assert structure.cycles(structure.import_graph(sources)) == []


def test_no_two_classes_have_one_name():
    assert structure.double_class_names(structure.read_sources(ROOT)) == {}


def test_the_check_for_names_sees_two_classes():
    sources = {"ajet/a.py": "class Batch: ...", "ajet/b.py": "class Batch: ..."}
    assert structure.double_class_names(sources) == {"Batch": ["ajet/a.py", "ajet/b.py"]}


@pytest.mark.parametrize(
    ("handler", "is_broad"),
    [
        ("except Exception:", True),
        ("except (KeyError, Exception) as error:", True),
        ("except:", True),
        ("except BaseException:", False),
        ("except ValueError:", False),
    ],
)
def test_the_check_for_handlers_sees_a_broad_one(handler, is_broad):
    sources = {"ajet/a.py": f"try:\n    f()\n{handler}\n    pass"}
    assert bool(structure.broad_handlers(sources)) is is_broad


def test_the_check_for_handlers_sees_suppressed_exceptions():
    sources = {"ajet/a.py": "with contextlib.suppress(OSError, Exception):\n    f()"}
    assert structure.broad_handlers(sources) == ["ajet/a.py"]


def test_few_files_are_so_short_that_reading_them_is_only_a_hop():
    assert len(structure.short_files(structure.read_sources(ROOT))) <= MAX_SHORT_FILES


def test_a_file_is_short_below_forty_lines_and_init_files_do_not_count():
    sources = {"ajet/a.py": "x\n" * 39, "ajet/b.py": "x\n" * 40, "ajet/__init__.py": ""}
    assert structure.short_files(sources) == ["ajet/a.py"]
