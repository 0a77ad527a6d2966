"""A recorded step, replayed with no engine.

1. Merged, judged, credited and trained again, everything is equal, bit for bit: exit code 0.
2. Negative controls: a changed token, logprob, reward, metric or weight is found and named:
   exit code 1.
3. With another judge or another estimator, other rewards and advantages are the result.
4. What cannot be replayed is reported: no such step, no checkpoint to start from.
5. Code and pickles of a run folder are executed only with `--trust`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from ajet.errors import ConfigError, DataError
from ajet.replay.replay import Replay, replay
from tests.end_to_end.command import OPENAI_AGENT, command, train
from tests.end_to_end.run_folders import NAME

STEP = 2


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint after each step."""
    exp_dir = tmp_path_factory.mktemp("recorded")
    options = ("trainer_common.save_freq=1", "trainer_common.total_training_steps=2")
    ended = train(exp_dir, OPENAI_AGENT, *options, "trainer_common.use_kl_loss=true")
    assert ended.code == 0, ended.stderr
    return exp_dir / NAME


@pytest.fixture
def run(recorded: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(recorded, tmp_path / "run")
    return tmp_path / "run"


def outcomes(result: Replay) -> dict[str, str]:
    return {stage.name: stage.outcome for stage in result.stages}


def differences(result: Replay, stage: str) -> list[str]:
    return next(s for s in result.stages if s.name == stage).differences


def test_the_last_step_comes_out_again(run: Path) -> None:
    ended = command("replay", str(run))
    assert ended.code == 0, ended.stdout + ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == f"{run}, step {STEP}"
    assert [line.split()[0] for line in lines if line[0] != " "][1:5] == ["equal"] * 4
    report = json.loads(Path(lines[-1]).read_text())
    assert Path(lines[-1]).parent == run / "replays"
    assert report["agrees"] is True
    training = report["stages"][3]
    assert training["weights_difference"] == 0
    names = {row["name"] for row in training["metrics"]}
    assert names >= {"policy/loss", "policy/grad_norm", "policy/kl", "policy/logprob_diff_max"}
    assert all(row["before"] == row["now"] for row in training["metrics"])


def test_the_first_step_starts_from_the_base_model(run: Path) -> None:
    result = replay(run, step=1)
    assert set(outcomes(result).values()) == {"equal"}
    assert result.stages[3].summary.startswith("from the base model: ")


def change_rows(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change a parquet file as a person would."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


def flip_token(rows: list[dict[str, Any]]) -> None:
    rows[3]["calls"][0]["completion_ids"][1] ^= 1


def change_logprob(rows: list[dict[str, Any]]) -> None:
    rows[0]["calls"][0]["logprobs"][0] -= 1e-3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (flip_token, ("repeat 3, sample 0: ids differ at 1 of ", "first at ")),
        (change_logprob, ("repeat 0, sample 0: logprobs differ at 1 of ", " recorded, now ")),
    ],
)
def test_control_a_changed_token_is_found(
    run: Path, change: Callable[[list[dict[str, Any]]], None], words: tuple[str, ...]
) -> None:
    change_rows(run / "calls" / f"step_{STEP:06d}.parquet", change)
    result = replay(run, with_training=False)
    assert outcomes(result) == {"merge": "differs", "rewards": "equal", "advantages": "equal"}
    assert not result.agrees
    (difference,) = differences(result, "merge")
    assert all(word in difference for word in words)


def test_control_a_changed_reward_is_found(run: Path) -> None:
    def praise(rows: list[dict[str, Any]]) -> None:
        rows[5].update(reward=0.75)

    change_rows(run / "calls" / f"step_{STEP:06d}.parquet", praise)
    ended = command("replay", str(run), "--no-train")
    assert ended.code == 1
    assert "differs" in ended.stdout
    assert ": 0.75" in ended.stdout


def test_control_a_changed_advantage_is_found(run: Path) -> None:
    def credit_more(rows: list[dict[str, Any]]) -> None:
        row = next(row for row in rows if any(row["advantages"]))
        row["advantages"] = [2 * value for value in row["advantages"]]

    change_rows(run / "rollouts" / f"step_{STEP:06d}.parquet", credit_more)
    result = replay(run, with_training=False)
    assert outcomes(result) == {"merge": "equal", "rewards": "equal", "advantages": "differs"}


def test_control_changed_weights_and_metrics_are_found(run: Path) -> None:
    weights = run / "checkpoints" / f"step_{STEP:06d}" / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"][0] += 0.125
    save_file(tensors, weights, {"format": "pt"})
    metrics = run / "metrics.jsonl"
    changed = [json.loads(line) for line in metrics.read_text().splitlines()]
    changed[-1]["policy/loss"] += 1e-7
    metrics.write_text("".join(json.dumps(line) + "\n" for line in changed))
    found = differences(replay(run), "training")
    assert len(found) == 2
    assert found[0].startswith("policy/loss: ")
    assert found[1] == "weights differ by up to 0.125"
    assert replay(run, tolerance=0.2).agrees


def test_another_judge_gives_other_rewards_and_that_is_no_fault(run: Path) -> None:
    judge = run / "generous.py"
    judge.write_text(
        "from ajet.task_judge.base_judge import BaseJudge\n"
        "class Generous(BaseJudge):\n"
        "    def compute_reward(self, workflow_task, workflow_output):\n"
        "        said = workflow_output.metadata['final_answer']\n"
        "        return float(len(said)), bool(said)\n"
    )
    ended = command("replay", str(run), "--judge", f"{judge}->Generous")
    assert ended.code == 0, ended.stdout + ended.stderr
    words = [line.split()[:2] for line in ended.stdout.splitlines()]
    assert ["equal", "merge"] in words
    assert all(["changed", name] in words for name in ("rewards", "advantages", "training"))


def test_another_estimator_gives_other_advantages(run: Path) -> None:
    overrides = ["trainer_common.algorithm.adv_estimator=rloo"]
    result = replay(run, overrides=overrides, with_training=False)
    assert outcomes(result) == {"merge": "equal", "rewards": "equal", "advantages": "changed"}
    assert result.agrees


def test_what_cannot_be_replayed_is_said(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    assert replay(run, with_training=False).step == 1
    result = replay(run, step=2)
    assert outcomes(result)["training"] == "skipped"
    assert result.stages[3].summary.startswith("there is no checkpoint of step 1 to start from")
    with pytest.raises(DataError, match="step 7 is not recorded; the steps 1 to 2 are"):
        replay(run, step=7)
    with pytest.raises(ConfigError, match=r"is not the folder of a run: it has no config\.yaml"):
        replay(run / "calls")


STRANGE = """
from pathlib import Path
Path(__file__).with_name("executed").touch()
from ajet.task_judge.base_judge import BaseJudge
class Strange(BaseJudge):
    def compute_reward(self, workflow_task, workflow_output):
        return 1.0, True
"""


@pytest.mark.parametrize(
    ("section", "setting"),
    [
        ("task_judge", "judge_protocol: strange.py->Strange"),
        ("task_judge", "judge_protocol: strange->Strange"),
        ("trainer_common", "algorithm: {adv_estimator: strange.py->Strange}"),
        ("trainer_common", "algorithm: {policy_loss: strange.py->Strange}"),
        ("task_reader", "filters: [strange.py->Strange]"),
    ],
)
def test_code_that_a_run_folder_names_is_not_executed(
    run: Path, section: str, setting: str
) -> None:
    (run / "strange.py").write_text(STRANGE)
    config = yaml.safe_load((run / "config.yaml").read_text())
    key, value = next(iter(yaml.safe_load(setting).items()))
    given = config["ajet"].setdefault(section, {})
    if isinstance(value, dict):
        given[key].update(value)
    else:
        given[key] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    ended = command("replay", str(run))
    assert ended.code == 2, ended.stdout + ended.stderr
    assert "would execute code of this run folder" in ended.stderr
    assert "--trust" in ended.stderr
    assert not (run / "executed").exists()


def test_code_of_a_run_folder_is_executed_with_trust(run: Path) -> None:
    (run / "strange.py").write_text(STRANGE)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["ajet"]["task_judge"] = {"judge_protocol": "strange.py->Strange"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    replay(run, with_training=False, trust=True)
    assert (run / "executed").exists()


def test_pickles_of_a_run_folder_are_not_loaded(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["ajet"]["backbone"] = "verl"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match="pickles"):
        replay(run)
