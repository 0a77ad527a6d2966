# Everything is installed into .venv, which the first command makes, and nowhere else.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
comma := ,
# A run is up to a dozen processes, which would all compile the same libraries: what one compiles stays.
export PYTHONDONTWRITEBYTECODE =
DEMO := tutorial/example_math_agent/math_agent_cpu.yaml

# The first of these that is Python 3.11 or 3.12.
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null \
	&& echo $$python && break; done)

# pip in a few lines: how far it is, and everything from the first error on.
PIP_LINES := awk '/^ *(ERROR|error)/ {bad = 1} bad {print; next} \
	/^Collecting/ && !(++n % 25) {print "  " n " packages found"} \
	/^Installing collected/ {print "  unpacking " NF - 3 " packages"} {fflush()}'
PIP_INSTALL = $(BIN)/pip install --no-compile --disable-pip-version-check \
	--constraint constraints.txt --editable

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-17s %s\n", $$1, $$2}' Makefile

demo: .venv/has-demo  ## train the math agent on this CPU [SEED=n] [STEPS=n] [ARGS=...]
	@$(BIN)/ajet --conf $(DEMO) --backbone=local $(if $(SEED),--seed=$(SEED)) $(ARGS) \
		$(if $(STEPS),trainer_common.total_training_steps=$(STEPS))

test: .venv/has-dev  ## every test that takes seconds
	@$(BIN)/pytest tests/unit
	@$(BIN)/pytest tests --ignore=tests/unit -m "not slow and not cuda and not vllm and not verl and not trinity"

test-slow: .venv/has-dev  ## the tests that take longer
	@$(BIN)/pytest tests -m "slow and not cuda and not vllm and not verl and not trinity"

test-agentscope2: .venv-agentscope2  ## the doors and agents with AgentScope 2.x
	@$</bin/pytest tests/gateway/test_clients.py tests/torch/test_agents_end_to_end.py

# With SLOW=1, the tests of each that kill, resume and spread as well: 20 minutes and more.
NOT_SLOW = $(if $(SLOW),,-m "not slow")

test-vllm: .venv-verl  ## vLLM as the engine, and Ray around a run, for real [SLOW=1]
	@$</bin/pytest tests/vllm tests/ray $(NOT_SLOW)

test-verl: .venv-verl  ## the verl backbone, for real, under Ray [SLOW=1]
	@$</bin/pytest tests/verl $(NOT_SLOW)

test-trinity: .venv-trinity  ## the Trinity-RFT backbone, for real, under Ray [SLOW=1]
	@$</bin/pytest tests/trinity $(NOT_SLOW)

check: .venv/has-dev  ## lint, format, types, stale docs
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/python -m ajet.config.reference docs/configuration.md --check

format: .venv/has-dev  ## put the code into the common form
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

docs: .venv/has-dev  ## write docs/configuration.md again
	@$(BIN)/python -m ajet.config.reference docs/configuration.md

tiny-model: .venv/has-dev  ## build the demo's tiny model again, from nothing
	@$(BIN)/python -m tutorial.example_math_agent.tiny_model.build --out ajet/tiny_model/calculator

bench: .venv/has-dev .venv-trl .venv-litellm  ## benchmarks, one JSON object each [NAME=rollout]
	@for name in $(or $(NAME),engine rollout math_agent gateway); do \
		$(BIN)/python benchmarks/$$name.py --json; done

define install
	@test -n "$(PYTHON)" || { echo "error: needs Python 3.11 or 3.12: make PYTHON=..."; exit 2; }
	@echo "Installing $(1) into .venv, once, a few minutes"
	@test -d .venv || $(PYTHON) -m venv .venv
	@$(PIP_INSTALL) '.[$(1)]' 2>&1 | $(PIP_LINES)
endef

.venv/has-demo: pyproject.toml constraints.txt
	$(call install,local$(comma)agentscope$(comma)view)
	@touch $@

.venv/has-dev: pyproject.toml constraints.txt
	$(call install,local$(comma)agentscope$(comma)langchain$(comma)server$(comma)view$(comma)environment$(comma)dev)
	@touch .venv/has-demo $@

# AgentScope 2.x does not go beside 1.x: an environment of its own.
.venv-agentscope2: pyproject.toml constraints.txt constraints-agentscope2.txt
	@$(PYTHON) -m venv $@
	@$@/bin/pip install --no-compile --disable-pip-version-check \
		--constraint <(grep -v ^agentscope== constraints.txt) \
		--constraint constraints-agentscope2.txt \
		--editable '.[local$(comma)server$(comma)dev]' agentscope 2>&1 | $(PIP_LINES)
	@touch $@

# verl with vLLM's CPU build, which asks for companions of torch that it does not need here: every
# package by name and version, and nothing that they ask for beyond that.
.venv-verl: pyproject.toml constraints-verl.txt
	@$(PYTHON) -m venv $@
	@$@/bin/pip install --no-compile --disable-pip-version-check --no-deps \
		--requirement constraints-verl.txt 2>&1 | $(PIP_LINES)
	@$@/bin/pip install --no-compile --disable-pip-version-check --no-deps --editable . 2>&1 \
		| $(PIP_LINES)
	@touch $@

# Trinity-RFT with an older verl than the one above, and the same vLLM.
.venv-trinity: pyproject.toml constraints-trinity.txt
	@$(PYTHON) -m venv $@
	@$@/bin/pip install --no-compile --disable-pip-version-check --no-deps \
		--requirement constraints-trinity.txt 2>&1 | $(PIP_LINES)
	@$@/bin/pip install --no-compile --disable-pip-version-check --no-deps --editable . 2>&1 \
		| $(PIP_LINES)
	@touch $@

# TRL, the peer of benchmarks/math_agent.py: an environment of its own.
.venv-trl: benchmarks/peers/trl-constraints.txt
	@$(PYTHON) -m venv $@
	@$@/bin/pip install --no-compile --disable-pip-version-check --constraint $< torch trl 2>&1 \
		| $(PIP_LINES)
	@touch $@

# LiteLLM's proxy, the peer of benchmarks/gateway.py: an environment of its own.
.venv-litellm: benchmarks/peers/litellm-constraints.txt
	@$(PYTHON) -m venv $@
	@$@/bin/pip install --no-compile --disable-pip-version-check --constraint $< \
		'litellm[proxy]' httptools 2>&1 | $(PIP_LINES)
	@touch $@

.PHONY: help demo test test-slow test-agentscope2 test-vllm test-verl test-trinity check format docs tiny-model bench
