"""Starting a run.

1. A new run gets a folder of its own; no run is ever written over.
2. The folder says what ran: the configuration, each process and how it ended.
3. What the user wrote is imported before the folder is made.
4. A resume that is refused changes nothing in the folder of its run.
5. A run may open as many files as the system allows, whatever the shell's own limit is.
"""

import errno
import importlib.util
import json
import logging
import logging.config
import os
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ajet.launcher.launch as launch_module
from ajet.config.backbones import BACKBONES
from ajet.config.loading.load import load_config
from ajet.config.sections.root import RootConfig
from ajet.errors import CheckpointError, ConfigError, DataError, MissingExtraError, TrainingError
from ajet.launcher.backbones import load_backbone
from ajet.launcher.launch import launch
from ajet.launcher.run_folder import find_run_folder, new_run_folder
from ajet.monitor.output import FileHandler, StderrHandler, log_to_console
from ajet.monitor.run_record import read_processes, recorded
from ajet.task_reader.read_tasks import TrainingData
from ajet.training.checkpoints import Position
from ajet.training.inputs import RunInputs, UserCode
from ajet.training.protocols import Run
from ajet.training.run import make_loop
from ajet.workflow import Workflow
from tests.unit.config_files import MINIMAL, load


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def backbone(monkeypatch) -> Callable[[Run], None]:
    """Puts a function in the place of the backbone."""

    def use(run: Run) -> None:
        monkeypatch.setattr("ajet.launcher.launch.load_backbone", lambda name: run)

    use(lambda config, folder, resume, inputs: None)
    return use


def start(tmp_path: Path, *overrides: str, resume: bool = False) -> Path:
    config = load(tmp_path, MINIMAL, f"experiment_dir={tmp_path}/runs", *overrides)
    return launch(config, command=["ajet", "--conf", "math.yaml"], resume=resume)


def test_a_run_keeps_the_tokenizer_of_its_model(tmp_path, backbone):
    model = tmp_path / "model"
    model.mkdir()
    (model / "tokenizer.json").write_text('{"kept": 1}')
    folder = start(tmp_path, f"model.path={model}")
    assert (folder / "tokenizer" / "tokenizer.json").read_text() == '{"kept": 1}'


def test_a_run_leaves_its_configuration_record_and_log(tmp_path, backbone):
    backbone(lambda config, folder, resume, inputs: logging.getLogger("ajet.x").info("at work"))
    folder = start(tmp_path, "trainer_common.nnodes=2")
    assert folder == tmp_path / "runs" / "math"
    assert load_config(folder / "config.yaml").ajet.trainer_common.nnodes == 2
    log = (folder / "logs" / "ajet.log").read_text()
    assert "INFO MainThread ajet.x: at work" in log
    assert "ajet.trainer_common.nnodes has no effect with the backbone local" in log
    [process] = json.loads((folder / "run.json").read_text())["processes"]
    assert process["pid"] == os.getpid()
    assert process["outcome"] == "finished"
    assert process["command"] == ["ajet", "--conf", "math.yaml"]
    assert process["versions"]["numpy"]


def test_a_new_run_gets_a_new_folder_and_says_so(tmp_path, backbone, caplog):
    caplog.set_level(logging.INFO)
    names = [start(tmp_path).name for _ in range(3)]
    assert names == ["math", "math-2", "math-3"]
    assert 'this run is "math-3"' in caplog.text


def test_the_outcome_of_a_run_is_recorded(tmp_path, backbone):
    def fail(config: RootConfig, folder: Path, resume: bool, inputs: RunInputs) -> None:
        raise TrainingError("too many failures")

    def interrupt(config: RootConfig, folder: Path, resume: bool, inputs: RunInputs) -> None:
        raise KeyboardInterrupt

    backbone(fail)
    with pytest.raises(TrainingError):
        start(tmp_path)
    backbone(interrupt)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path)
    outcomes = [
        read_processes(tmp_path / "runs" / name)[0]["outcome"] for name in ("math", "math-2")
    ]
    assert outcomes == ["failed: TrainingError: too many failures", "interrupted"]


def test_a_full_disk_does_not_hide_what_ended_the_run(tmp_path, backbone, monkeypatch, caplog):
    def fail(config: RootConfig, folder: Path, resume: bool, inputs: RunInputs) -> None:
        def no_space(*args: object, **kwargs: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_text", no_space)
        raise TrainingError("the checkpoint could not be written")

    backbone(fail)
    with pytest.raises(TrainingError, match="checkpoint"):
        start(tmp_path)
    assert "run.json cannot be written: [Errno 28] No space left" in caplog.text


def test_resuming_goes_on_in_the_latest_folder(tmp_path, backbone, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(2):
        start(tmp_path)
    (tmp_path / "runs" / "math-9").mkdir()  # no run in it
    folder = start(tmp_path, "rollout.num_repeat=2", resume=True)
    assert folder.name == "math-2"
    assert len(read_processes(folder)) == 2
    assert "ajet.rollout.num_repeat was 8 before and is 2 now" in caplog.text
    assert re.search(r"--resume runs the code that your configuration names: \S+->\w+", caplog.text)


def test_an_unfinished_run_is_resumed_rather_than_a_newer_finished_one(tmp_path, caplog):
    first, second = (new_run_folder(tmp_path, "math") for _ in range(2))
    with pytest.raises(KeyboardInterrupt), recorded(first, ["x"]):
        raise KeyboardInterrupt
    with recorded(second, ["x"]):
        pass
    assert find_run_folder(tmp_path, "math") == first
    assert f"continuing {first}, which is not finished; finished and newer: math-2" in caplog.text
    with recorded(first, ["x"]):
        pass
    assert find_run_folder(tmp_path, "math") == second


def test_a_disk_that_is_full_at_the_start_is_told_in_one_sentence(tmp_path, backbone, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(launch_module, "write_config", fail)
    with pytest.raises(TrainingError, match="the run cannot continue: .* No space left on device"):
        start(tmp_path)


def test_a_resume_that_is_refused_leaves_the_configuration_as_it_was(tmp_path, backbone):
    def refuse(config: RootConfig, folder: Path, resume: bool, inputs: RunInputs) -> None:
        raise TrainingError("these are other tasks")

    folder = start(tmp_path)
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    before = (folder / "config.yaml").read_bytes()
    backbone(refuse)
    with pytest.raises(TrainingError, match="these are other tasks"):
        start(tmp_path, "trainer_common.seed=9", resume=True)
    assert (folder / "config.yaml").read_bytes() == before


def test_a_resumed_run_that_fails_at_work_keeps_its_configuration(tmp_path, backbone):
    def work_and_fail(config: RootConfig, folder: Path, resume: bool, inputs: RunInputs) -> None:
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"step": 2}\n')
        raise TrainingError("too many failures")

    folder = start(tmp_path)
    backbone(work_and_fail)
    with pytest.raises(TrainingError, match="too many failures"):
        start(tmp_path, "trainer_common.seed=9", resume=True)
    assert load_config(folder / "config.yaml").ajet.trainer_common.seed == 9


def test_a_resume_with_other_tasks_drops_no_record(tmp_path):
    config = load(tmp_path, MINIMAL)
    data = TrainingData.read(config.ajet)
    position = Position(
        step=1, policy_version=1, reader_state=data.batches.state() | {"stream": "another"}
    )
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(f'{{"step": {step}}}\n' for step in (1, 2, 3)))
    before = metrics.read_bytes()
    with pytest.raises(CheckpointError, match="cannot resume: the training tasks"):
        make_loop(
            config,
            tmp_path,
            RunInputs(code=UserCode(workflow_class=Workflow, judge=None), data=data),
            policy=None,  # type: ignore[arg-type]
            resume=True,
            position=position,
            progress=None,  # type: ignore[arg-type]
            http_endpoint=None,  # type: ignore[arg-type]
        )
    assert metrics.read_bytes() == before


def test_the_outcome_has_its_space_on_a_disk_that_becomes_full(tmp_path):
    folder = new_run_folder(tmp_path, "math")
    with recorded(folder, ["x"]):
        [kept] = [path for path in folder.iterdir() if path.name != "run.json"]
        assert kept.stat().st_size > 10 * (folder / "run.json").stat().st_size
    assert [path.name for path in folder.iterdir()] == ["run.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"processes": [1]}', '{"processes": [{}]}', "x"])
def test_a_damaged_record_of_processes_is_told_in_one_sentence(tmp_path, text):
    folder = new_run_folder(tmp_path, "math")
    (folder / "run.json").write_text(text)
    with pytest.raises(
        DataError, match=r"run.json is damaged .*, so it is not known which"
    ) as told:
        find_run_folder(tmp_path, "math")
    assert len(str(told.value).splitlines()) == 1


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]\n" for number in range(1, 12)
)
"""Aliases that stand for a million million texts."""


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [", "just words", "\x00", BOMB])
def test_settings_that_cannot_be_read_do_not_keep_a_run_from_continuing(
    tmp_path, backbone, caplog, text
):
    folder = start(tmp_path)
    whole = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text)
    assert start(tmp_path, resume=True) == folder
    assert "config.yaml is damaged and is written anew" in caplog.text
    assert (folder / "config.yaml").read_text() == whole


def test_a_runs_own_folder_may_be_named_to_resume_it(tmp_path):
    folder = new_run_folder(tmp_path, "math")
    with recorded(folder, ["x"]):
        pass
    assert find_run_folder(folder, "another name") == folder


@pytest.mark.parametrize("touch", [shutil.rmtree, lambda folder: folder.rename(f"{folder}-moved")])
def test_a_folder_that_is_taken_away_in_mid_run_is_one_sentence(tmp_path, backbone, caplog, touch):
    def run(config, folder, resume, inputs):
        touch(folder)
        (folder / "metrics.jsonl").read_text()

    backbone(run)
    with pytest.raises(TrainingError, match="the run cannot continue: .*metrics.jsonl"):
        start(tmp_path)
    assert "run.json was removed or moved while the run worked" in caplog.text


def test_a_file_of_the_run_that_cannot_be_opened_is_one_sentence(tmp_path, backbone):
    def run(config, folder, resume, inputs):
        (folder / "metrics.jsonl").mkdir()
        (folder / "metrics.jsonl").read_text()

    backbone(run)
    with pytest.raises(TrainingError, match=r"the run cannot continue: .*Is a directory.*metrics"):
        start(tmp_path)
    backbone(lambda *_: (tmp_path / "no such file").read_text())
    with pytest.raises(FileNotFoundError):  # a mistake elsewhere keeps its traceback
        start(tmp_path)


def test_there_must_be_a_run_to_resume(tmp_path):
    with pytest.raises(ConfigError, match='--resume: there is no run "math"'):
        find_run_folder(tmp_path, "math")
    with recorded(new_run_folder(tmp_path, "maths"), ["x"]):
        pass
    with pytest.raises(ConfigError, match='no run "math" in .*; there is "maths"$'):
        find_run_folder(tmp_path, "math")
    (tmp_path / "math").mkdir()  # a part of a run, copied without its record
    with pytest.raises(
        ConfigError, match=r'no run "math" in .*, because .*/math has no run\.json$'
    ):
        find_run_folder(tmp_path, "math")


def test_a_run_that_is_still_running_is_not_resumed(tmp_path):
    folder = new_run_folder(tmp_path, "math")
    with (
        recorded(folder, ["x"]),
        pytest.raises(
            ConfigError, match=f"is still running as process {os.getpid()}; end it with ajet kill"
        ),
    ):
        find_run_folder(tmp_path, "math")


def test_a_run_that_was_killed_is_resumed(tmp_path):
    folder = new_run_folder(tmp_path, "math")
    with recorded(folder, ["x"]):
        record = json.loads((folder / "run.json").read_text())
        record["processes"][0]["start_ticks"] += 1  # the pid has another process now
        (folder / "run.json").write_text(json.dumps(record))
        assert find_run_folder(tmp_path, "math") == folder


def test_a_mistake_in_the_users_code_is_told_before_a_folder_is_made(tmp_path, backbone):
    for override in ("rollout.user_workflow=agent.py->Agnt", "task_judge.judge_protocol=no->J"):
        with pytest.raises(ConfigError):
            start(tmp_path, override)
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"ajet\.experiment_dir: cannot make the folder"):
        new_run_folder(tmp_path / "file", "math")


def test_the_console_has_our_messages_and_the_warnings_of_others(root_logger, capsys):
    log_to_console()
    log_to_console()
    logging.getLogger("ajet.some").info("ours")
    logging.getLogger("other").info("chatter")
    logging.getLogger("other").warning("trouble")
    assert capsys.readouterr().err == "ours\nwarning: trouble\n"
    assert sum(isinstance(handler, StderrHandler) for handler in root_logger.handlers) == 1


def test_log_lines_go_where_stderr_is_at_that_moment(root_logger, monkeypatch):
    lines = []

    class Display:
        def write(self, text: str) -> None:
            lines.append(text)

    log_to_console()
    monkeypatch.setattr(sys, "stderr", Display())
    logging.getLogger("ajet").info("above what moves")
    assert lines == ["above what moves\n"]


@pytest.fixture
def own_logger() -> Iterator[logging.Logger]:
    """A logger that there was before user code configures logging, as all of ours."""
    before = {name: each.disabled for name, each in loggers().items()}
    yield logging.getLogger("ajet.training.here")
    for name, each in loggers().items():
        each.disabled = before.get(name, False)


def loggers() -> dict[str, logging.Logger]:
    found = logging.getLogger().manager.loggerDict.items()
    return {name: each for name, each in found if isinstance(each, logging.Logger)}


def configure() -> None:
    """What a program that is started by itself does first."""
    logging.basicConfig(force=True)
    logging.config.dictConfig({"version": 1})


def test_a_workflows_file_that_configures_logging_silences_nothing(
    tmp_path, backbone, monkeypatch, capsys, own_logger
):
    monkeypatch.setattr("ajet.monitor.output.KEEP_INTERVAL_S", 1000)
    log_to_console()
    (tmp_path / "configuring.py").write_text(CONFIGURING)
    folder = start(tmp_path, "rollout.user_workflow=configuring.py->Agent")
    assert "run folder: " in (folder / "logs" / "ajet.log").read_text()
    assert "run folder: " in capsys.readouterr().err


def test_code_that_configures_logging_in_a_run_silences_nothing(
    tmp_path, backbone, monkeypatch, capsys, own_logger
):
    monkeypatch.setattr("ajet.monitor.output.KEEP_INTERVAL_S", 0.01)

    def run(config: RootConfig, folder: Path, resume: bool, inputs: RunInputs) -> None:
        configure()
        deadline = time.monotonic() + 60
        root = logging.getLogger()
        while own_logger.disabled or not {StderrHandler, FileHandler} <= set(
            map(type, root.handlers)
        ):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        own_logger.warning("an episode failed")

    backbone(run)
    log_to_console()
    log = (start(tmp_path) / "logs" / "ajet.log").read_text()
    assert log.count("WARNING MainThread ajet.training.here: an episode failed") == 1
    assert "warning: an episode failed" in capsys.readouterr().err


CONFIGURING = """\
import logging.config

from ajet import Workflow
from tests.unit.test_launcher import configure

configure()

class Agent(Workflow):
    async def execute(self, workflow_task, tuner):
        raise NotImplementedError
"""


OWN_BACKBONE = """\
def run(config, run_folder, resume, inputs):
    (run_folder / "trained").write_text(config.ajet.experiment_name)
"""


def test_a_function_of_the_users_own_may_be_the_backbone(tmp_path):
    (tmp_path / "mine.py").write_text(OWN_BACKBONE)
    folder = start(tmp_path, "backbone=mine.py->run")
    assert (folder / "trained").read_text() == "math"
    with pytest.raises(ConfigError, match='no function "rnu" in .*mine.py; did you mean "run"'):
        start(tmp_path, "backbone=mine.py->rnu")


READER_THAT_COUNTS = """\
from pathlib import Path
from ajet import Task
from ajet.task_reader.task_reader_base import BaseTaskReader

class Reader(BaseTaskReader):
    def get_training_tasks(self):
        with Path(self.reader_config.count_in).open("a") as file:
            file.write("read ")
        return [Task(main_query="1 + 1")]
"""


def test_tasks_and_classes_are_loaded_once_and_handed_on(tmp_path, backbone):
    (tmp_path / "counting.py").write_text(READER_THAT_COUNTS)
    given = []
    backbone(lambda config, folder, resume, inputs: given.append(inputs))
    count = tmp_path / "count"
    start(tmp_path, "task_reader.type=counting.py->Reader", f"task_reader.count_in={count}")
    assert count.read_text() == "read "
    [inputs] = given
    assert [task.main_query for task in inputs.data.batches.tasks] == ["1 + 1"]
    assert inputs.code.workflow_class.__name__ == "Agent"
    assert inputs.code.judge is None


@pytest.mark.parametrize("name", BACKBONES)
def test_every_registered_backbone_names_code_that_exists(name):
    entry = BACKBONES[name]
    for path in filter(None, (entry.run, entry.refuse, entry.ray_needs)):
        module, _, function = path.partition("->")
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert f"def {function}(" in Path(str(spec.origin)).read_text()


def test_a_library_of_the_backbone_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'^torch is not installed: .*"agentjet\[local\]"$'):
        load_backbone("local")


def test_a_run_raises_the_limit_of_open_files(tmp_path, backbone):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    seen = []
    backbone(lambda *_: seen.append(resource.getrlimit(resource.RLIMIT_NOFILE)))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        start(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert seen == [(min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536, hard)]
