"""Class paths: `package.module->Class` and `path/to/file.py->Class`.

1. Two files of one base name are two modules; one file is loaded once.
2. Every mistake is a ConfigError that names the key and, inside a file, the line.
3. An error that is not about importing comes as it is: it is a bug for its author to see.
"""

import runpy
import sys
from collections import OrderedDict

import pytest

from ajet.class_path import class_path_of, load_class
from ajet.errors import ConfigError, MissingExtraError
from ajet.task_judge.base_judge import BaseJudge

KEY = "ajet.rollout.user_workflow"


def refused(path: str, base: type | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        load_class(path, base, KEY)
    assert str(error.value).startswith(f"{KEY}: ")
    return str(error.value).removeprefix(f"{KEY}: ")


def test_a_class_is_loaded_from_a_module():
    assert load_class("collections->OrderedDict", dict, KEY) is OrderedDict


def test_files_with_the_same_base_name_are_two_modules(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "agent.py").write_text(f"class Agent:\n    where = '{folder}'\n")
    one = load_class(f"{tmp_path}/one/agent.py->Agent", None, KEY)
    two = load_class(f"{tmp_path}/two/agent.py->Agent", None, KEY)
    assert (one.where, two.where) == ("one", "two")


def test_a_file_is_loaded_once_however_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "agent.py").write_text("class Agent: pass\n")
    monkeypatch.chdir(tmp_path)
    absolute = load_class(f"{tmp_path}/agent.py->Agent", None, KEY)
    assert load_class("agent.py->Agent", None, KEY) is absolute


def test_the_current_directory_can_be_imported_from(tmp_path, monkeypatch):
    (tmp_path / "helper_of_this_test.py").write_text("class Agent: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load_class("helper_of_this_test->Agent", None, KEY).__name__ == "Agent"


@pytest.mark.parametrize("path", ["Agent", "->Agent", "agent.py->", ""])
def test_a_path_that_names_no_class_is_refused(path):
    assert refused(path).startswith(f'got "{path}", expected')


def test_a_missing_file_module_or_class_is_refused():
    assert refused("no/such.py->Agent") == "there is no file no/such.py"
    assert "No module named 'no_such'" in refused("no_such->Agent")
    assert refused("collections->OrderedDic") == (
        'no class "OrderedDic" in collections; did you mean "OrderedDict"?'
    )
    assert 'no class "namedtuple"' in refused("collections->namedtuple")


def test_a_class_with_another_base_is_refused():
    assert refused("collections->OrderedDict", BaseJudge).endswith("is not a subclass of BaseJudge")


def test_import_errors_name_file_and_line(tmp_path):
    bad_import, bad_syntax = tmp_path / "bad_import.py", tmp_path / "bad_syntax.py"
    bad_import.write_text("import json\nfrom json import no_such\n")
    bad_syntax.write_text("class Agent:\n  def (\n")
    assert f"{bad_import}:2: ImportError: cannot import name" in refused(f"{bad_import}->Agent")
    assert f"{bad_syntax}:2: SyntaxError" in refused(f"{bad_syntax}->Agent")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    assert "leaves.py ends the program while it is imported (SystemExit: 0)" in refused(
        f"{tmp_path}/leaves.py->Agent"
    )


@pytest.mark.parametrize(
    ("library", "extra"),
    [("langchain_openai", "langchain"), ("gymnasium", "environment"), ("peft", "lora")],
)
def test_a_missing_library_of_an_extra_is_reported_with_the_command(
    tmp_path, monkeypatch, library, extra
):
    (tmp_path / "agent.py").write_text(f"import {library}\n")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf'pip install "agentjet\[{extra}\]"'):
        load_class(f"{tmp_path}/agent.py->Agent", None, KEY)


def test_other_errors_are_not_changed_and_leave_no_partial_module(tmp_path):
    file = tmp_path / "agent.py"
    file.write_text("1 / 0\n")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            load_class(f"{file}->Agent", None, KEY)


def test_a_class_path_leads_back_to_its_class(tmp_path):
    (tmp_path / "agent.py").write_text("class Agent: pass\n")
    agent = load_class(f"{tmp_path}/agent.py->Agent", None, KEY)
    assert class_path_of(agent) == f"{tmp_path}/agent.py->Agent"
    for cls in (agent, OrderedDict, BaseJudge):
        assert load_class(class_path_of(cls), None, KEY) is cls


def test_a_class_inside_a_function_has_no_class_path():
    class Local:
        pass

    with pytest.raises(ConfigError, match="top level"):
        class_path_of(Local)


def test_a_script_that_names_its_own_class_does_not_run_twice(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from ajet.class_path import class_path_of, load_class\n"
        "class Agent: pass\n"
        "same = load_class(class_path_of(Agent), None, 'key') is Agent\n"
    )
    assert runpy.run_path(str(script), run_name="__main__")["same"]


def test_a_module_beside_the_file_can_be_imported_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "sibling_of_this_test.py").write_text("where = 'beside'\n")
    (tmp_path / "agent.py").write_text(
        "from sibling_of_this_test import where as found\nclass Agent:\n    where = found\n"
    )
    assert load_class(f"{tmp_path}/agent.py->Agent", None, KEY).where == "beside"


def test_a_relative_import_is_told_with_the_name_to_use(tmp_path):
    package = tmp_path / "my_agents"
    package.mkdir()
    for folder in (tmp_path / "plain", package):
        folder.mkdir(exist_ok=True)
        (folder / "agent.py").write_text("from .tools import look\n")
    (package / "__init__.py").write_text("")
    with pytest.raises(ConfigError, match=f"my_agents.agent->NAME, from {tmp_path}$"):
        load_class(f"{package}/agent.py->Agent", None, KEY)
    with pytest.raises(ConfigError, match="without dots$"):
        load_class(f"{tmp_path}/plain/agent.py->Agent", None, KEY)
