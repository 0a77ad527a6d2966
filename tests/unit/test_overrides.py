"""Command-line overrides `key.path=value`.

1. A path starts at `ajet.`, at a section of `ajet`, or at a section of the user's own.
2. A value is read as YAML. Later overrides win, and all of them win over the file.
3. A wrong one is told like a wrong line of the file.
"""

import pytest

from tests.unit.config_files import MINIMAL, load, problems

TEXT = MINIMAL + "frozen_lake: {is_slippery: true, deep: {size: 4}}\n"


@pytest.mark.parametrize("key", ["rollout.num_repeat", "ajet.rollout.num_repeat"])
def test_a_path_may_start_at_ajet_or_at_its_section(tmp_path, key):
    assert load(tmp_path, TEXT, f"{key}=4").ajet.rollout.num_repeat == 4


def test_a_missing_section_is_created(tmp_path):
    assert load(tmp_path, TEXT, "trainer_common.optim.lr=3e-4").ajet.trainer_common.optim.lr == 3e-4


def test_the_users_own_sections_can_be_set(tmp_path):
    config = load(tmp_path, TEXT, "frozen_lake.is_slippery=false", "frozen_lake.deep.size=8")
    assert (config.frozen_lake.is_slippery, config.frozen_lake.deep.size) == (False, 8)


def test_free_sections_take_any_path(tmp_path):
    config = load(tmp_path, TEXT + "verl: {a: {b: 1}}\n", "verl.a.c=2", "trinity.x.y=z")
    assert config.ajet.verl == {"a": {"b": 1, "c": 2}}
    assert config.ajet.trinity == {"x": {"y": "z"}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("frozen_lake.is_slippery=", None),
        ("frozen_lake.is_slippery=1e-6", 1e-6),
        ("frozen_lake.is_slippery='1'", "1"),
        ("frozen_lake.is_slippery=[1, {a: b}]", [1, {"a": "b"}]),
        ("frozen_lake.is_slippery=a=b", "a=b"),
    ],
)
def test_a_value_is_read_as_yaml(tmp_path, value, expected):
    assert load(tmp_path, TEXT, value).frozen_lake.is_slippery == expected


def test_the_last_override_wins(tmp_path):
    overrides = ["rollout.num_repeat=2", "rollout={user_workflow: m->A}", "rollout.top_k=3"]
    rollout = load(tmp_path, TEXT, *overrides).ajet.rollout
    assert (rollout.num_repeat, rollout.user_workflow, rollout.top_k) == (8, "m->A", 3)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("num_repeat", "num_repeat: expected key.path=value"),
        ("a..b=1", "a..b=1: expected key.path=value"),
        ("+a.b=1", "+a.b=1: expected key.path=value, without `+`, which is Hydra's"),
        ("~a.b", "~a.b: expected key.path=value, without `~`, which is Hydra's"),
        (
            "trainer.nnodes=1",
            "trainer.nnodes=1: settings of verl are below verl: write verl.trainer.nnodes=...",
        ),
        ("=1", "=1: expected key.path=value"),
        ("rollout.top_k=[", "rollout.top_k=[: not valid YAML"),
        ("rolout.top_k=3", 'there is no section "rolout"; did you mean "rollout"?'),
        ("frozen_lak.size=3", 'there is no section "frozen_lak"; did you mean "frozen_lake"?'),
        ("frozen_lake.is_slipery=1", 'no key "is_slipery"; did you mean "is_slippery"?'),
        ("frozen_lake.deep.size.x=1", 'frozen_lake.deep.size has no key "x"'),
        ("rollout.temprature=1", 'ajet.rollout.temprature: unknown key; did you mean "temperatu'),
        ("rollout.num_repeat.x=1", 'ajet.rollout.num_repeat: got {"x": 1}, expected an integer'),
        ("backbone=locl", 'ajet.backbone: got "locl", expected one of "local", '),
    ],
)
def test_wrong_overrides_are_reported(tmp_path, override, problem):
    [line] = problems(tmp_path, TEXT, override)
    assert line.startswith("command line: ")
    assert problem in line


def test_problems_of_file_and_command_line_are_reported_together(tmp_path):
    text = TEXT.replace("type: random_dummy", "type: randm_dummy")
    lines = problems(tmp_path, text, "rollout.num_repeat=0", "nonsense")
    assert [line.split(": ")[0] for line in lines] == [
        "command line",
        "command line",
        "math.yaml:7",
    ]
