"""Which validation tasks a run takes (`rollout.validation.num_tasks` and `task_choice`).

1. `first` takes the first ones of the reader.
2. `random` takes as many from all over, always the same for one seed, in the reader's order.
3. Without a number, or with one that is no limit, every task is taken.
"""

import pytest

from ajet.config.loading.load import load_config
from ajet.schema.task import Task
from ajet.task_reader.read_tasks import TrainingData
from ajet.task_reader.task_reader_base import BaseTaskReader


class Twenty(BaseTaskReader):
    def get_training_tasks(self):
        return [Task(main_query="q", task_id="t")]

    def get_validation_tasks(self):
        return [Task(main_query="q", task_id=f"{number:02}") for number in range(20)]


def chosen(folder, *overrides):
    path = folder / "a.yaml"
    path.write_text(
        "ajet:\n  model: {path: hub/name}\n  rollout: {user_workflow: package.module->Agent}\n"
        "  task_reader: {type: random_dummy}\n"
    )
    ajet = load_config(path, overrides).ajet
    tasks = TrainingData.read(ajet, Twenty(ajet.task_reader)).validation
    return [task.task_id for task in tasks]


def test_the_first_tasks(tmp_path):
    assert chosen(tmp_path, "rollout.validation.num_tasks=3") == ["00", "01", "02"]


def test_a_random_choice_is_fixed_by_the_seed(tmp_path):
    settings = ["rollout.validation.num_tasks=5", "rollout.validation.task_choice=random"]
    first = chosen(tmp_path, *settings)
    assert len(set(first)) == 5
    assert first == sorted(first) != ["00", "01", "02", "03", "04"]
    assert chosen(tmp_path, *settings) == first
    assert chosen(tmp_path, *settings, "trainer_common.seed=7") != first


@pytest.mark.parametrize("number", ["null", "20", "99"])
def test_no_limit_takes_every_task(tmp_path, number):
    settings = [f"rollout.validation.num_tasks={number}", "rollout.validation.task_choice=random"]
    assert len(chosen(tmp_path, *settings)) == 20
