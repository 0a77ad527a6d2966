"""Writes `docs/configuration.md` from the configuration's classes.

python -m ajet.config.reference docs/configuration.md [--check]
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic.fields import FieldInfo

from ajet.config.loading.describe import expected, is_list, subsection
from ajet.config.sections.root import AjetConfig
from ajet.config.sections.section import BaseConfig

HEAD = """\
# Configuration

<!-- Made by `make docs` from the classes in ajet/config/. Do not edit. -->

A run is described by one YAML file with the root `ajet:`. Any key can be set on the command line
as well, after the options: `ajet --conf math.yaml rollout.num_repeat=4`. The value is read as
YAML; the path starts at a section below, at `ajet.`, or at a section of your own.

- An unknown key, a value of the wrong kind and a file that is not there are refused, all in one
  message, with file, line and the nearest name.
- Files are looked for from the YAML file's folder first, then from the current directory; those
  that the command line names, from the current directory first.
- Sections of your own stand beside `ajet:` and are read as `tuner.config.my_section.my_key`.
- `hydra:` and `defaults:`, which older files have, are ignored with a notice.
- The run folder's `config.yaml` holds every value that a run had, those below included.
- A setting that the chosen backbone does not honour is named in a warning when the run starts.
"""


def reference() -> str:
    """The page, in Markdown."""
    return "\n".join([HEAD, *_section(AjetConfig, "ajet", "")])


def _section(
    section: type[BaseConfig], path: str, about: str, *, is_entry: bool = False
) -> Iterator[str]:
    """A section and those below it; of an entry in a list, only the keys that its class adds."""
    yield f"## `{path}`\n"
    yield f"{about or inspect.getdoc(section)}\n"
    below: list[str] = []
    rows: list[str] = []
    for name, field in section.model_fields.items():
        if is_entry and name not in section.__annotations__:
            continue
        kind = subsection(field)
        if kind and is_list(field):
            below += _section(kind, f"{path}.{name}[]", "", is_entry=True)
        elif kind:
            below += _section(kind, f"{path}.{name}", field.description or "")
        if not kind or is_list(field):
            rows.append(_row(name, field))
    if rows:
        yield "| key | default | takes | what it does |\n|---|---|---|---|"
        yield from rows
        yield ""
    yield from below


def _row(name: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"`{_default(field)}`"
    about = " ".join((field.description or "").split())
    return f"| `{name}` | {default} | {expected(field)} | {about} |"


def _default(field: FieldInfo) -> str:
    return json.dumps(field.get_default()).strip('"')


def default_of(key: str) -> str:
    """The default of a setting, such as `rollout.num_repeat`, as the page shows it."""
    section: type[BaseConfig] = AjetConfig
    *parents, name = key.split(".")
    for parent in parents:
        below = subsection(section.model_fields[parent])
        assert below, f"{parent} is a section"
        section = below
    return _default(section.model_fields[name])


def write_or_check(path: Path, text: str, *, check: bool) -> int:
    """Write a generated page, or only say whether it is stale; returns the exit code."""
    if not check:
        path.write_text(text, encoding="utf-8")
    elif not path.is_file() or path.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"{path} is stale; run `make docs`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(write_or_check(Path(sys.argv[1]), reference(), check="--check" in sys.argv))
