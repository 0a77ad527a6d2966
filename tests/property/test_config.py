"""Whatever a YAML file or an override says, it is a configuration or a clear refusal of one.

1. No text raises anything but ConfigError.
2. Each line of a refusal names a place and says something.
3. What loads, loads to the same after it was written down.
"""

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ajet.config.loading.load import resolve, to_yaml
from ajet.config.loading.problems import all_keys
from ajet.config.loading.yaml_file import parse_yaml
from ajet.config.sections.root import AjetConfig, RootConfig
from ajet.errors import ConfigError

SOURCE = "some.yaml"
MINIMAL = {
    "model": {"path": "ajet:calculator"},
    "rollout": {"user_workflow": "my_module->Agent"},
    "task_reader": {"type": "random_dummy"},
}

known_keys = st.sampled_from(
    [key.removeprefix("ajet.") for key in all_keys(AjetConfig, "ajet")] + ["ajet", "mine.own"]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-2, 100)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["auto", "a->b", "x.py->B", "none", "text", "tensorboard"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(0, 3), inner, max_size=3)
    ),
    max_leaves=4,
)
changes = st.dictionaries(known_keys, values, max_size=6)


def load(text: str, overrides: list[str]) -> RootConfig | None:
    try:
        return resolve(parse_yaml(text, SOURCE), Path("/nowhere") / SOURCE, overrides)
    except ConfigError as error:
        for line in str(error).splitlines():
            place, colon, problem = line.partition(": ")
            assert place.startswith((SOURCE, "command line"))
            assert colon
            assert problem
        return None


def changed(change: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {"ajet": {name: dict(section) for name, section in MINIMAL.items()}}
    for key, value in change.items():
        section = data["ajet"]
        *above, last = key.split(".")
        for name in above:
            if not isinstance(section.get(name), dict):
                section[name] = {}
            section = section[name]
        section[last] = value
    return data


@given(change=changes)
@settings(max_examples=100, deadline=None)
def test_any_settings_are_a_configuration_or_refused(change):
    text = yaml.safe_dump(changed(change))
    config = load(text, [])
    if config is not None:
        assert load(to_yaml(config), []) == config


@given(key=known_keys | st.text(max_size=12), value=st.text(max_size=12))
@settings(max_examples=100, deadline=None)
def test_any_override_is_a_configuration_or_refused(key, value):
    load(yaml.safe_dump({"ajet": MINIMAL}), [f"{key}={value}"])


@given(text=st.text(alphabet="ab:-[]{}&*!|>'\"#,? \n\t%@0.9e", max_size=40))
@settings(max_examples=100, deadline=None)
def test_any_text_is_a_configuration_or_refused(text):
    load(text, [])
    load(f"ajet:\n  rollout: {text}", [])
