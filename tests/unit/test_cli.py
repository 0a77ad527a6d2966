"""The command line.

1. Exit codes: 0 done, 1 the run failed, 2 the configuration or command is wrong, 130 Ctrl-C.
2. A mistake is `error:` lines on stderr, without a traceback.
3. An error that is not ours keeps its traceback.
"""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from ajet.errors import TrainingError
from tests.unit.config_files import write

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ajet(monkeypatch, capsys, tmp_path):
    """Runs the command in this process; returns its exit code, stderr and what was launched."""
    monkeypatch.setattr("ajet.cli.log_to_console", lambda: None)
    # This process continues: signals must still end it.
    monkeypatch.setattr("ajet.cli.command_process", lambda: None)
    monkeypatch.setenv("AJET_DEBUG", "")
    write(tmp_path)
    launched = []

    def run(*arguments: str, launch=None) -> tuple[int, str, list]:
        from ajet.cli import main

        monkeypatch.setattr(
            "ajet.launcher.launch.launch",
            launch or (lambda config, **options: launched.append((config.ajet, options))),
        )
        monkeypatch.setattr(sys, "argv", ["ajet", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), capsys.readouterr().err, launched

    return run


@pytest.fixture
def conf(tmp_path) -> str:
    return f"--conf={tmp_path}/math.yaml"


def test_options_and_overrides_reach_the_run(ajet, conf):
    code, _, [(config, options)] = ajet(
        conf,
        "--backbone=local",
        "--seed=7",
        "--exp-dir=runs: a",
        "--resume",
        "--with-logview",
        "--debug=JUDGE",
        "rollout.num_repeat=4",
        "trainer_common.total_training_steps=3",
    )
    assert code == 0
    assert config.trainer_common.seed == 7
    assert config.experiment_dir == "runs: a"
    assert config.rollout.num_repeat == 4
    assert config.trainer_common.total_training_steps == 3
    assert options["resume"] is True
    assert options["with_logview"] is True
    assert os.environ["AJET_DEBUG"] == "JUDGE"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backbone=locl"], 'got "locl", expected one of "local"'),
        (["--with-ray", "--with-ray-cluster"], "--with-ray-cluster joins one; give only one of"),
        (["--ray-num-gpus=2"], "error: --ray-num-gpus needs --with-ray\n"),
        (["--ray-address=localhost:1"], "error: --ray-address needs --with-ray-cluster\n"),
        (["rollout.num_repet=4"], 'unknown key; did you mean "num_repeat"?'),
        (["oops"], "oops: expected key.path=value"),
        (["--kill=vllm|ray"], "--kill is not accepted: it ends processes by a word"),
        (["--autokill"], "`ajet kill RUN` ends what one run started"),
        (["--swarm-server"], "--swarm-server is not accepted: training for agents that run else"),
        (["--swarm-overwatch=http://x"], "--swarm-overwatch is not accepted: training for agents"),
        (["--with-webshop"], "--with-webshop starts the service that WEBSHOP_SCRIPT names"),
        (["rollout.user_workflow=agent.py-"], 'the shell took ">" for a redirection: quote'),
    ],
)
def test_mistakes_end_with_code_2_and_a_line_of_error(ajet, conf, arguments, message):
    code, stderr, launched = ajet(conf, *arguments)
    assert (code, launched) == (2, [])
    assert stderr.startswith("error: ")
    assert message in stderr
    assert len(stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chek", "--conf=x.yaml"], 'there is no command "chek"; did you mean "check"?'),
        (["frobnicate"], 'there is no command "frobnicate"; there are train, '),
        (["math.yaml"], "--conf is missing; write `ajet --conf math.yaml`"),
        (["check", "math.yaml"], "--conf is missing; write `ajet check --conf math.yaml`"),
        (["engine", "start", "a.yml"], "--conf is missing; write `ajet engine start --conf a.yml`"),
        (
            ["--backbone", "local", "my runs.yaml"],
            "--conf is missing; write `ajet --backbone local --conf 'my runs.yaml'`",
        ),
    ],
)
def test_a_mistaken_first_word_gets_a_suggestion(ajet, arguments, message):
    code, stderr, launched = ajet(*arguments)
    assert (code, launched) == (2, [])
    assert stderr.startswith("error: ")
    assert message in stderr


def test_version(ajet, monkeypatch):
    shown = []
    monkeypatch.setattr("ajet.cli.typer.echo", shown.append)
    assert ajet("--version")[0] == 0
    assert shown == [f"ajet {version('agentjet')}"]


def test_options_of_agentjet(ajet, conf, caplog):
    code, _, [(_, _)] = ajet(conf, "--db=A|B", "--skip-check-avail-gpu", "--prefix=x")
    assert code == 0
    assert os.environ["AJET_DEBUG"] == "A|B"
    assert [message.partition(" has")[0] for message in caplog.messages] == [
        "--skip-check-avail-gpu",
        "--prefix",
    ]


def test_with_name_starts_the_service_of_two_environment_variables(
    ajet, conf, tmp_path, monkeypatch
):
    monkeypatch.setenv("APPWORLD_PATH", str(tmp_path))
    monkeypatch.setenv("APPWORLD_SCRIPT", "bash 'start it.sh'")
    reader = "task_reader={type: env_service, env_service: {env_url: 'http://127.0.0.1:8099'}}"
    code, _, [(config, _)] = ajet(conf, "--with-appworld", reader)
    assert code == 0
    [service] = config.task_runner.services
    assert (service.name, service.command) == ("appworld", ["bash", "start it.sh"])
    assert (service.cwd, service.ready_url) == (str(tmp_path), "http://127.0.0.1:8099")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cnof=x"], "No such option: --cnof"),
        ([], "--conf"),
        ([], "`ajet init NAME`"),
        (["--backbone=debug"], "--conf"),
    ],
)
def test_wrong_options_end_with_code_2(ajet, arguments, message):
    code, stderr, _ = ajet(*arguments)
    assert code == 2
    assert message in stderr


def test_each_problem_of_the_file_has_a_line_of_its_own(ajet, conf):
    _, stderr, _ = ajet(conf, "rollout.num_repeat=0", "rollout.temprature=1")
    assert [line[:20] for line in stderr.splitlines()] == ["error: command line:"] * 2


def test_a_run_that_fails_ends_with_code_1(ajet, conf):
    def fail(config, **options):
        raise TrainingError("the loss is NaN")

    assert ajet(conf, launch=fail)[:2] == (1, "error: the loss is NaN\n")


def test_ctrl_c_ends_with_code_130(ajet, conf):
    def interrupt(config, **options):
        raise KeyboardInterrupt

    code, stderr, _ = ajet(conf, launch=interrupt)
    assert code == 130
    assert "--resume" in stderr


@pytest.mark.parametrize("command", ["train", "check"])
def test_ctrl_c_before_a_run_begins_is_answered(ajet, conf, monkeypatch, command):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ajet.cli.load_config", interrupt)
    monkeypatch.setattr("ajet.commands.diagnose.load_config", interrupt)
    assert ajet(command, conf)[:2] == (130, "interrupted\n")


@pytest.mark.parametrize("error", [ZeroDivisionError(), EOFError("x"), BrokenPipeError(32, "x")])
def test_an_error_that_is_not_ours_keeps_its_traceback(tmp_path, conf, monkeypatch, error):
    from ajet.cli import main

    write(tmp_path)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr("ajet.launcher.launch.launch", fail)
    monkeypatch.setattr(sys, "argv", ["ajet", conf, f"--exp-dir={tmp_path}/runs"])
    monkeypatch.setattr("ajet.cli.log_to_console", lambda: None)
    monkeypatch.setattr("ajet.cli.command_process", lambda: None)
    with pytest.raises(type(error)) as raised:
        main()
    assert raised.value is error
    assert raised.value.__context__ is None


def test_the_command_runs_from_any_folder(tmp_path):
    path = write(tmp_path)
    path.write_text("ajet:\n  rollout: {temprature: 1}\n")
    result = subprocess.run(
        [sys.executable, "-m", "ajet.cli", "--conf", str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert (
        f'error: {path}:2: ajet.rollout.temprature: unknown key; did you mean "temperature"?'
        in (result.stderr)
    )
    assert "Traceback" not in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("module", ["typer", "ajet.diagnostics.doctor"])
def test_ctrl_c_while_the_command_line_is_loaded_is_answered(tmp_path, module):
    program = f"""
import runpy, sys, types

class Interrupts:
    def find_spec(self, name, *_):
        if name == {module!r}:
            exec("raise KeyboardInterrupt")

sys.meta_path.insert(0, Interrupts())
runpy.run_module("ajet", run_name="__main__", alter_sys=True)
"""
    (tmp_path / "program.py").write_text(program)
    result = subprocess.run(
        [sys.executable, "-m", "program", "doctor"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (130, "interrupted\n")
