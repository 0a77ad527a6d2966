"""Lists the files that one task passes, from the reading of the YAML to the first gradient.

    PYTHONPATH=DIR python -P tests/way_of_a_task.py DIR       # DIR: a checkout of the project

The demo runs for one small step with the local backbone, while a profiling function notes every
function call in `ajet/`, in all threads. A file is on the way of a task if

1. one of its functions runs between the moment the loop takes its first tasks from the data and
   the end of the first `backward()`; or
2. it is on the call stack when the YAML is parsed, when a task is read from its file, or when the
   loop takes its first tasks.

Module bodies and class bodies do not count. The `__init__` of a dataclass counts for the module of
the dataclass, so a file that only defines records counts where one of its records is made. The last
line of the output is one JSON object.
"""

import inspect
import json
import sys
import tempfile
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

CONFIG = "tutorial/example_math_agent/math_agent_cpu.yaml"
SETTINGS = [
    "trainer_common.total_training_steps=1",
    "trainer_common.val_before_train=false",
    "data.train_batch_size=4",
    "rollout.num_repeat=4",
    "rollout.validation.num_tasks=2",
]
STOPS = {"parse_yaml", "get_training_tasks", "next_batch"}
"""Functions whose callers are on the way, too."""


class Way:
    """Notes the modules of the package whose functions run."""

    def __init__(self) -> None:
        self.executed: set[str] = set()
        """Modules in which any function ran before the first gradient."""
        self.on_the_way: set[str] = set()
        self._step_began = False
        self._ended = False

    def profile(self, frame: FrameType, event: str, _: Any) -> None:
        """To be given to `sys.setprofile`."""
        if self._ended:
            return
        if event == "call":
            if module := _module_of(frame):
                self._enter(module, frame)
        elif event == "return" and _is_backward(frame.f_code):
            self._ended = self._step_began

    def _enter(self, module: str, frame: FrameType) -> None:
        self.executed.add(module)
        if frame.f_code.co_name in STOPS:
            self._step_began |= frame.f_code.co_name == "next_batch"
            self.on_the_way |= _modules_on_stack(frame)
        elif self._step_began:
            self.on_the_way.add(module)


def _module_of(frame: FrameType) -> str | None:
    """The module of ours that the running function is defined in.

    Not by file name: that of a dataclass's `__init__` is "<string>".
    """
    name: str = frame.f_globals.get("__name__", "")
    is_function = frame.f_code.co_flags & inspect.CO_OPTIMIZED
    return name if is_function and name.partition(".")[0] == "ajet" else None


def _modules_on_stack(frame: FrameType | None) -> set[str]:
    modules = set()
    while frame:
        if module := _module_of(frame):
            modules.add(module)
        frame = frame.f_back
    return modules


def _is_backward(code: CodeType) -> bool:
    return code.co_name == "backward" and code.co_filename.endswith("torch/_tensor.py")


def main() -> None:
    root = Path(sys.argv[1]).resolve()
    import ajet

    package = Path(ajet.__file__).resolve().parent
    assert package == root / "ajet", f"{package} was imported; set PYTHONPATH={root}"
    from ajet.cli import main as ajet_main

    way = Way()
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["ajet", "--conf", CONFIG, "--backbone=local", f"--exp-dir={folder}", *SETTINGS]
        threading.setprofile(way.profile)
        sys.setprofile(way.profile)
        try:
            ajet_main()
        except SystemExit as end:
            if end.code:
                raise
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    print(
        json.dumps({"files_on_the_way": sorted(way.on_the_way), "executed": sorted(way.executed)})
    )


if __name__ == "__main__":
    main()
