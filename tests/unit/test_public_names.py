"""The names that users import are fixed."""

import importlib
import inspect

import pytest

import ajet

PUBLIC = [
    ("ajet", "Workflow"),
    ("ajet", "WorkflowTask"),
    ("ajet", "WorkflowOutput"),
    ("ajet", "AjetTuner"),
    ("ajet", "AgentJetJob"),
    ("ajet", "Task"),
    ("ajet", "bp"),
    ("ajet.workflow", "Workflow"),
    ("ajet.workflow", "WorkflowOutput"),
    ("ajet.workflow", "WorkflowTask"),
    ("ajet.task_judge.base_judge", "BaseJudge"),
    ("ajet.task_reader.task_reader_base", "BaseTaskReader"),
    ("ajet.schema.task", "Task"),
    ("ajet.schema.task", "WorkflowTask"),
    ("ajet.schema.task", "WorkflowOutput"),
]


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_public_names_can_be_imported(module, name):
    assert callable(getattr(importlib.import_module(module), name))


def test_all_lists_the_public_names_and_no_others():
    names = {name for module, name in PUBLIC if module == "ajet"}
    assert set(ajet.__all__) == names | {"__version__"}
    assert dir(ajet) == sorted(ajet.__all__)


def test_a_name_is_the_same_object_wherever_it_is_imported_from():
    from ajet.schema.task import WorkflowTask
    from ajet.workflow import Workflow

    assert ajet.WorkflowTask is WorkflowTask
    assert ajet.Workflow is Workflow


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Wrkflow'"):
        ajet.Wrkflow  # noqa: B018


def test_the_job_has_its_documented_methods():
    names = ["set_workflow", "set_data", "dump_job_as_yaml", "load_job_from_yaml", "tune"]
    assert all(inspect.isfunction(getattr(ajet.AgentJetJob, name)) for name in names)
    assert list(inspect.signature(ajet.AgentJetJob.set_data).parameters)[1:3] == [
        "type",
        "dataset_path",
    ]


def test_a_breakpoint_stops_only_for_a_tag_that_is_asked_for(monkeypatch):
    stops = []
    monkeypatch.setattr("sys.breakpointhook", lambda: stops.append(1))
    monkeypatch.delenv("AJET_DEBUG", raising=False)
    ajet.bp("REWARD")
    monkeypatch.setenv("AJET_DEBUG", "JUDGE,REWARD")
    ajet.bp("REWARD")
    ajet.bp("REW")
    assert stops == [1]


AGENTJET = [
    ("ajet.copilot.job", "AgentJetJob"),
    ("ajet.task_judge.env_service_as_judge", "EnvServiceJudge"),
    ("ajet.task_judge.rm_auto_grader_judge", "AutoGraderJudge"),
    ("ajet.task_rollout.dashscope_llm_bridge", "create_external_llm_fn"),
    ("tutorial.example_math_agent.math_answer_as_judge", "MathAnswerAsJudge"),
]
"""Names that projects written for AgentJet import besides these."""


@pytest.mark.parametrize(("module", "name"), AGENTJET)
def test_the_import_paths_of_agentjet_work(module, name):
    assert callable(getattr(importlib.import_module(module), name))


def test_a_breakpoint_of_agentjet_needs_no_tag_and_stops_once(monkeypatch):
    stops = []
    monkeypatch.setattr("sys.breakpointhook", lambda: stops.append(1))
    monkeypatch.setattr("ajet.debug_point._stopped", set())
    monkeypatch.delenv("AJET_DEBUG", raising=False)
    ajet.bp()
    assert stops == []
    monkeypatch.setenv("AJET_DEBUG", "A|B")
    ajet.bp()
    ajet.bp("B", once=False)
    ajet.bp("B", once=False)
    ajet.bp("A")
    ajet.bp("A")
    ajet.bp()
    assert len(stops) == 4
