"""`ajet check`: everything but the weights is tried, and each thing that is wrong has its line.

What the workflow, the judge or the data do wrong is named; the rest is looked at all the same.
"""

from __future__ import annotations

from pathlib import Path

from ajet.config.loading.load import load_config
from ajet.diagnostics.check import check
from ajet.diagnostics.finding import Finding
from tests.unit.config_files import MINIMAL, write

ASKING = """\
from ajet import Workflow, WorkflowOutput
class Agent(Workflow):
    async def execute(self, workflow_task, tuner):
        client = tuner.as_raw_openai_sdk_client()
        messages = [{"role": "user", "content": "1 + 1"}]
        answer = await client.chat.completions.create(model="m", messages=messages)
        {after}
"""
JUDGE = """\
from ajet.task_judge.base_judge import BaseJudge
class Judge(BaseJudge):
    def compute_reward(self, workflow_task, workflow_output):
        {body}
"""
PLAIN_REWARD = """\
import numpy as np
from ajet.algorithm.credit import CreditReport, CreditRule
def assign(groups):
    report = CreditReport()
    for group in groups:
        for episode in group.valid:
            for sample in episode.samples:
                sample.advantages = np.where(sample.loss_mask, np.float32(episode.reward), 0)
        samples = [s for e in group.valid for s in e.samples if np.any(s.advantages)]
        report.is_zero_variance.append(not samples)
        report.samples += samples
    return report
plain_reward = CreditRule(assign=assign)
"""


def findings(folder: Path, after: str, *overrides: str, judge: str = "") -> list[Finding]:
    path = write(folder, MINIMAL)
    (folder / "agent.py").write_text(ASKING.replace("{after}", after))
    if judge:
        (folder / "judge.py").write_text(JUDGE.replace("{body}", judge))
        overrides = (*overrides, f"task_judge.judge_protocol={folder}/judge.py->Judge")
    return check(load_config(path, ["model.renderer=qwen3", *overrides]), builds_model=False)


def one(found: list[Finding], name: str) -> Finding:
    (finding,) = [finding for finding in found if finding.name == name]
    return finding


def test_a_workflow_that_gives_its_reward(tmp_path: Path) -> None:
    found = findings(tmp_path, "return WorkflowOutput(reward=0.5)")
    assert {finding.verdict for finding in found if finding.name != "data"} == {"ok"}
    assert one(found, "episode").text.startswith("1 call of ")
    text = "the workflow returns the reward itself: reward 0.5, a success"
    assert one(found, "judge").text == text


def test_a_workflow_that_fails_is_a_warning_with_its_traceback(tmp_path: Path) -> None:
    found = findings(tmp_path, "raise KeyError('tool')")
    episode = one(found, "episode")
    assert episode.verdict == "warn"
    assert "it ended in workflow_error: KeyError: 'tool'" in episode.text
    assert "agent.py" in episode.remedy
    assert one(found, "judge").verdict == "warn"
    assert one(found, "memory").verdict == "ok"


def test_a_judge_that_fails_is_bad(tmp_path: Path) -> None:
    found = findings(tmp_path, "return WorkflowOutput()", judge="return {}['answer']")
    judge = one(found, "judge")
    assert (judge.verdict, judge.text) == ("bad", "Judge: KeyError: 'answer'")
    assert "judge.py" in judge.remedy


def test_a_judge_is_asked_once(tmp_path: Path) -> None:
    found = findings(tmp_path, "return WorkflowOutput()", judge="return 0.25, False")
    assert one(found, "judge").text == "Judge: reward 0.25, no success, for a made-up answer"


def test_a_file_that_cannot_be_imported_is_bad_and_the_rest_is_checked(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    (tmp_path / "agent.py").write_text("1 / 0\n")
    found = check(load_config(path, ["model.renderer=qwen3"]), builds_model=False)
    workflow = one(found, "workflow")
    assert (workflow.verdict, workflow.text) == ("bad", "ZeroDivisionError: division by zero")
    assert one(found, "memory").verdict == "ok"
    assert "episode" not in [finding.name for finding in found]


def test_what_is_odd_about_the_data_is_told(tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_text('{"main_query": "1 + 1"}\n{"main_query": " "}\n')
    found = findings(
        tmp_path,
        "return WorkflowOutput(reward=0.0)",
        "task_reader.type=jsonl_dataset_file",
        f"task_reader.jsonl_dataset_file.training.file_path={tmp_path}/tasks.jsonl",
    )
    texts = [finding.text for finding in found if finding.name == "data"]
    assert texts[0].startswith("2 training tasks, 0 for validation; the first, ")
    assert len(texts) == 4


def test_settings_without_effect_are_named(tmp_path: Path) -> None:
    found = findings(tmp_path, "return WorkflowOutput(reward=0.0)", "debug.num_tasks=7")
    warned = [finding.text for finding in found if finding.name == "configuration"]
    assert warned[1:] == ["ajet.debug has no effect with the backbone local"]


def test_what_the_backbone_cannot_honour_is_bad(tmp_path: Path) -> None:
    gae = "trainer_common.algorithm.adv_estimator=gae"
    found = findings(tmp_path, "return WorkflowOutput(reward=1.0)", "backbone=local", gae)
    assert any(f.verdict == "bad" and "gae needs a critic" in f.text for f in found)
    found = findings(tmp_path, "return WorkflowOutput(reward=1.0)", "backbone=verl", gae)
    assert not any("gae" in f.text for f in found)


def test_groups_of_one_episode_are_bad_where_the_estimator_compares_episodes(
    tmp_path: Path,
) -> None:
    def configuration(*overrides: str) -> list[Finding]:
        found = findings(tmp_path, "return WorkflowOutput(reward=0.5)", *overrides)
        return [f for f in found if f.name == "configuration" and f.verdict == "bad"]

    (finding,) = configuration("rollout.num_repeat=1")
    assert finding.text.startswith("rollout.num_repeat is 1, and grpo compares the episodes")
    assert configuration("rollout.num_repeat=2") == []
    assert configuration("rollout.num_repeat=1", "backbone=debug") == []
    (tmp_path / "plain.py").write_text(PLAIN_REWARD)
    own = f"trainer_common.algorithm.adv_estimator={tmp_path}/plain.py->plain_reward"
    assert configuration("rollout.num_repeat=1", own) == []


def test_validation_tasks_that_are_trained_on_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("".join(f'{{"main_query": "{n}"}}\n' for n in range(9)))
    (tmp_path / "val.jsonl").write_text(
        '{"main_query": "7", "task_id": "seven"}\n{"main_query": "x"}'
    )

    def data(validation: str) -> list[str]:
        found = findings(
            tmp_path,
            "return WorkflowOutput(reward=0.0)",
            "task_reader.type=jsonl_dataset_file",
            f"task_reader.jsonl_dataset_file.training.file_path={tmp_path}/train.jsonl",
            f"task_reader.jsonl_dataset_file.validation.file_path={tmp_path}/{validation}",
        )
        return [f.text for f in found if f.name == "data" and "training tasks, too" in f.text]

    assert data("val.jsonl")[0].startswith(
        "1 of 2 validation tasks are training tasks, too, for example seven"
    )
    assert data("train.jsonl")[0].startswith("9 of 9 validation tasks")


def test_calls_that_are_not_trained_are_bad_with_the_reason(tmp_path: Path) -> None:
    after = "return WorkflowOutput(reward=0.5)\n    trainable_targets: list = ['other']"
    finding = one(findings(tmp_path, after), "episode")
    assert finding.verdict == "bad"
    assert "0 of them trained" in finding.text
    assert (
        'has target_tag "' in finding.remedy and "trainable_targets does not name" in finding.remedy
    )


def test_a_workflow_that_uses_a_client_of_its_own_is_told_so(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    (tmp_path / "agent.py").write_text(
        "from ajet import Workflow, WorkflowOutput\nclass Agent(Workflow):\n"
        "    async def execute(self, workflow_task, tuner):\n"
        "        return WorkflowOutput(reward=1.0)\n"
    )
    found = check(load_config(path, ["model.renderer=qwen3"]), builds_model=False)
    assert "an agent with a client of its own must get one of" in one(found, "episode").remedy


def test_samples_that_a_limit_drops_are_bad_with_the_limit(tmp_path: Path) -> None:
    after = "return WorkflowOutput(reward=0.5)"
    finding = one(findings(tmp_path, after, "data.max_prompt_length=5"), "episode")
    assert finding.verdict == "bad"
    assert "data.max_prompt_length: more tokens come before" in finding.remedy
