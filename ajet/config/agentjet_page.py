"""Writes `docs/from_agentjet.md` from the table of AgentJet's settings.

python -m ajet.config.agentjet_page docs/from_agentjet.md [--check]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ajet.config.loading.agentjet_keys import (
    DOCUMENTED_DEFAULTS,
    KEYS,
    MARK,
    VALUES,
    VERL_SECTIONS,
    NoEffect,
    OnlyValues,
    Renamed,
    Rule,
)
from ajet.config.reference import default_of, write_or_check

HEAD = f"""\
# From AgentJet

<!-- Made by `make docs` from ajet/config/loading/agentjet_keys.py. Do not edit. -->

YAML files and workflows written against AgentJet's documented interface run here unchanged. Try
yours with

```bash
ajet check --conf your.yaml
```

It lists every setting that has no effect here, with the reason, and every default that differs.

- **Defaults.** A file whose top-level list `defaults:` names `{MARK}`, as AgentJet's own files do,
  gets AgentJet's documented defaults (the last table). Other files get ours.
- **A new file.** `ajet check --from-agentjet --conf old.yaml --write new.yaml` writes the same
  settings under our names, with the documented defaults written out.
- **`experiment_name: read_yaml_name`** is the YAML file's name. **`experiment_dir: auto`** is
  `saved_experiments`; a second run of the same name gets a number (`NAME-2`).
- **`hydra:`** has no effect: this project does not use Hydra.
- **Sections of verl** ({", ".join(f"`{name}:`" for name in VERL_SECTIONS)}) belong below `verl:`
  here. One at the top level is named in a notice.
"""

RENAMED = """
## Settings with another name

Both names are accepted; giving both is an error.

| AgentJet | here | remark |
|---|---|---|"""

ACCEPTED = """
## Settings without effect

Accepted with a notice.

| AgentJet | why it has no effect |
|---|---|"""

LIMITED = """
## Settings of which some values are accepted

| AgentJet | accepted | otherwise |
|---|---|---|"""

DEFAULTS = f"""
## Defaults that differ

| key | AgentJet's default (with `defaults: [{MARK}]`) | default here |
|---|---|---|"""


def page() -> str:
    """The page, in Markdown."""
    rows: dict[str, list[str]] = {RENAMED: [], ACCEPTED: [], LIMITED: []}
    for key, rule in KEYS.items():
        table, row = _row(key, rule)
        rows[table].append(row)
    for key, names in VALUES.items():
        rows[RENAMED] += [f"| `{key}: {old}` | `{key}: {new}` | |" for old, new in names.items()]
    lines = [HEAD.rstrip("\n")]
    for title, body in rows.items():
        lines += [title, *body]
    lines.append(DEFAULTS)
    for key, value in DOCUMENTED_DEFAULTS.items():
        lines.append(f"| `{key}` | `{json.dumps(value)}` | `{default_of(key)}` |")
    return "\n".join(lines) + "\n"


def _row(key: str, rule: Rule) -> tuple[str, str]:
    if isinstance(rule, Renamed):
        return RENAMED, f"| `{key}` | `{rule.to}` | {rule.note} |"
    if isinstance(rule, NoEffect):
        return ACCEPTED, f"| `{key}` | {rule.why} |"
    if isinstance(rule, OnlyValues):
        values = ", ".join(f"`{json.dumps(value)}`" for value in rule.values)
        return LIMITED, f"| `{key}` | {values} | refused; use {rule.instead} |"
    values = ", ".join(f"`{json.dumps(value)}`" for value in rule.neutral)
    elsewhere = f"a notice: {rule.elsewhere}" if rule.elsewhere else "refused"
    handed = f"handed to verl as `{rule.to}`; with another backbone {elsewhere}"
    return LIMITED, f"| `{key}` | {values or 'every value'} | {handed} |"


if __name__ == "__main__":
    sys.exit(write_or_check(Path(sys.argv[1]), page(), check="--check" in sys.argv))
