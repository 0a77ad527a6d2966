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
    Divides,
    NoEffect,
    OnlyValues,
    Renamed,
    Rule,
)
from ajet.config.reference import default_of, write_or_check

HEAD = f"""\
# From modelscope/AgentJet

<!-- Made by `make docs` from ajet/config/loading/agentjet_keys.py. Do not edit. -->

On this page, "AgentJet" is the framework at `github.com/modelscope/AgentJet`, and "here" is this
project. YAML files and workflows that were written for AgentJet's documented interface run here
unchanged. Try yours with

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

INTERFACE = {
    "`ajet.copilot.job.AgentJetJob`, its positional arguments, `build_job_from_yaml`, "
    '`set_data(type="hf")`': "the same",
    "`ajet.task_judge.env_service_as_judge.EnvServiceJudge`": "the same",
    "`tutorial.example_math_agent.math_answer_as_judge.MathAnswerAsJudge`": "the same; also "
    "`task_judge.judge_type: math_answer`",
    "`ajet.task_judge.rm_auto_grader_judge.AutoGraderJudge`": "the same settings; "
    "the rubric is a file that can be edited",
    "`ajet.task_rollout.dashscope_llm_bridge.create_external_llm_fn`": "the same, for any "
    "OpenAI-compatible server (`DASHSCOPE_BASE_URL`, `DASHSCOPE_API_KEY`)",
    "`ajet.utils.robust_dashscope.RobustDashScopeChatModel`": "the same, with AgentScope 1.x",
    "`bp(tag=None, once=True)`, `--debug`, `--db`": "the same",
    "`WorkflowOutput.log_metrics` with lists and dicts": "a list is its mean; a dict gives one "
    "metric for each key, `NAME/KEY`",
    "`--with-appworld` and other `--with-NAME`": "starts `NAME_SCRIPT` in `NAME_PATH`",
    "`--with-ray-cluster` on every node of a job": "on `MASTER_ADDR` only; the other nodes are "
    "told how to join",
    "`--skip-check-avail-gpu`, `--prefix`": "accepted without effect",
    "`--kill`, `--autokill`, `--reboot`": "refused; `ajet kill RUN` ends what one run started",
    "reader `tracing` (`feedback_tracing`), its filters `llm_evaluate` and `deduplication`": "the "
    "same; a key is read from an environment variable; without `model`, `deduplication` needs none",
    "reader `data_generation`": "the same; the result is in `output_dir`, new tasks have answers, "
    "and `languages` are those of the questions",
}
"""Row of the page: AgentJet's names, and what they are here."""

INTERFACE_HEAD = """
## Python and the command line

| AgentJet | here |
|---|---|"""

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
    lines = [HEAD.rstrip("\n"), INTERFACE_HEAD]
    lines += [f"| {theirs} | {ours} |" for theirs, ours in INTERFACE.items()]
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
    if isinstance(rule, Divides):
        return RENAMED, f"| `{key}` | `{rule.to}`, divided by it | {rule.why} |"
    values = ", ".join(f"`{json.dumps(value)}`" for value in rule.neutral)
    elsewhere = f"a notice: {rule.elsewhere}" if rule.elsewhere else "refused"
    handed = f"handed to verl as `{rule.to}`; with another backbone {elsewhere}"
    return LIMITED, f"| `{key}` | {values or 'every value'} | {handed} |"


if __name__ == "__main__":
    sys.exit(write_or_check(Path(sys.argv[1]), page(), check="--check" in sys.argv))
