# Everything is installed into .venv, which the first command makes. The tests of vLLM, verl, Trinity-RFT
# and AgentScope 2, and two benchmarks, have environments of their own: .venv-verl and so on.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
comma := ,
# Keep compiled files: a run has up to a dozen processes, which would all compile the same libraries.
export PYTHONDONTWRITEBYTECODE =
DEMO := tutorial/example_math_agent/math_agent_cpu.yaml

# The first of these commands that is Python 3.11 or 3.12.
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null \
	&& echo $$python && break; done)

# Shorten pip's output: its progress, and everything from the first error on.
PIP_LINES := awk '/^ *(ERROR|error)/ {bad = 1} bad {print; next} \
	/^Collecting/ && !(++n % 25) {print "  " n " packages found"} \
	/^Installing collected/ {print "  unpacking " NF - 3 " packages"} {fflush()}'
PIP_INSTALL = $(BIN)/pip install --no-compile --disable-pip-version-check \
	--constraint constraints.txt --editable

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-17s %s\n", $$1, $$2}' Makefile

demo: .venv/has-demo  ## train the math agent on this CPU [SEED=n] [STEPS=n] [ARGS=...]
	@$(BIN)/ajet --conf $(DEMO) --backbone=local $(if $(SEED),--seed=$(SEED)) $(ARGS) \
		$(if $(STEPS),trainer_common.total_training_steps=$(STEPS))

test: .venv/has-dev  ## run the fast tests: no test takes more than a few seconds
	@$(BIN)/pytest tests/unit
	@$(BIN)/pytest tests --ignore=tests/unit -m "not slow and not browser and not cuda and not vllm and not verl and not trinity and not install"

test-slow: .venv/has-dev  ## run the tests that take longer
	@$(BIN)/pytest tests -m "slow and not cuda and not vllm and not verl and not trinity and not install"

test-cuda: .venv/has-dev  ## run the tests that need a GPU, which torch must have been built for
	@$(BIN)/pytest tests -m cuda

test-browser: .venv/has-browser  ## run the tests of the viewer in a real Chromium
	@$(BIN)/pytest tests/viewer -m browser

test-agentscope2: .venv-agentscope2  ## run the tests of clients and agents with AgentScope 2.x
	@$</bin/pytest tests/gateway/test_clients.py tests/torch/test_agents_end_to_end.py

# SLOW=1 adds the tests that kill, resume and use several ranks: 20 minutes and more each.
NOT_SLOW = $(if $(SLOW),,-m "not slow")

test-vllm: .venv-verl  ## run the tests with a real vLLM and a real Ray [SLOW=1]
	@$</bin/pytest tests/vllm tests/ray $(NOT_SLOW)

test-verl: .venv-verl  ## run the tests of the verl backbone under Ray [SLOW=1]
	@$</bin/pytest tests/verl $(NOT_SLOW)

test-trinity: .venv-trinity  ## run the tests of the Trinity-RFT backbone under Ray [SLOW=1]
	@$</bin/pytest tests/trinity $(NOT_SLOW)

test-install: .venv/has-dev  ## install the GPU environments for real and test them: 15 minutes, 10 GB
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest tests/install -s

locks: .venv/has-dev  ## write locks/*-gpu.txt again, from pyproject.toml
	@for backbone in verl trinity; do $(BIN)/uv pip compile pyproject.toml --extra $$backbone \
		--universal --python-version 3.11 --quiet --no-annotate --no-emit-package agentjet \
		--custom-compile-command "make locks" --output-file locks/$$backbone-gpu.txt; done

check: .venv/has-dev  ## check lint, format, types and generated docs
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/python -m ajet.config.reference docs/configuration.md --check
	@$(BIN)/python -m ajet.config.agentjet_page docs/from_agentjet.md --check

format: .venv/has-dev  ## format the code
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

docs: .venv/has-dev  ## generate docs/configuration.md and docs/from_agentjet.md
	@$(BIN)/python -m ajet.config.reference docs/configuration.md
	@$(BIN)/python -m ajet.config.agentjet_page docs/from_agentjet.md

# mkdocs-material prints an advertisement otherwise.
.PHONY: site
site: .venv/has-docs  ## build the documentation site into site/; a dead link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo site/index.html

tiny-model: .venv/has-dev  ## build the demo's tiny model from scratch
	@$(BIN)/python -m tutorial.example_math_agent.tiny_model.build --out ajet/tiny_model/calculator

TINY_MODELS := countdown frozen_lake learn_to_ask appworld werewolves

tiny-models: .venv/has-dev tiny-model  ## build the tiny models of all examples [ONLY="countdown appworld"]
	@for name in $(or $(ONLY),$(TINY_MODELS)); do \
		$(BIN)/python -m tutorial.tiny_models.build tutorial.example_$$name.teacher \
		--out tutorial/example_$$name/tiny_model; done
	$(if $(ONLY),,@$(BIN)/python -m tutorial.tiny_models.build \
		tutorial.example_math_agent.python_teacher --out tutorial/example_math_agent/python_model)

examples: .venv/has-examples  ## train the examples one after the other [ONLY="countdown appworld"] [SEED=n]
	@$(BIN)/python benchmarks/examples.py --seeds $(or $(SEED),0) $(if $(ONLY),--only $(ONLY))

chaos: .venv/has-dev  ## kill, stop, fill and flood small runs [BACKBONE=local] [ROUNDS=50] [SEED=0]
	@$(BIN)/python -m tests.chaos.campaign --backbone $(or $(BACKBONE),local) \
		--rounds $(or $(ROUNDS),50) --seed $(or $(SEED),0)

bench: .venv/has-dev .venv-trl .venv-litellm  ## run benchmarks, one JSON object each [NAME=rollout]
	@for name in $(or $(NAME),engine rollout math_agent gateway viewer); do \
		$(BIN)/python benchmarks/$$name.py --json; done

define install
	@test -n "$(PYTHON)" || { echo "error: needs Python 3.11 or 3.12: make PYTHON=..."; exit 2; }
	@echo "Installing $(1) into .venv, once, a few minutes"
	@test -d .venv || $(PYTHON) -m venv .venv
	@$(PIP_INSTALL) '.[$(1)]' 2>&1 | $(PIP_LINES)
endef

.venv/has-demo: pyproject.toml constraints.txt
	$(call install,local$(comma)agentscope$(comma)server)
	@touch $@

.venv/has-examples: pyproject.toml constraints.txt
	$(call install,local$(comma)agentscope$(comma)server$(comma)environment)
	@touch .venv/has-demo $@

.venv/has-dev: pyproject.toml constraints.txt
	$(call install,local$(comma)lora$(comma)agentscope$(comma)langchain$(comma)server$(comma)view$(comma)data$(comma)environment$(comma)trackers$(comma)dev)
	@touch .venv/has-demo .venv/has-examples $@

# Chromium is the system's own package; Playwright only drives it, and downloads no browser.
.venv/has-browser: .venv/has-dev
	@command -v chromium || command -v chromium-browser || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends \
		chromium fonts-dejavu-core; }
	@$(PIP_INSTALL) '.[browser]' 2>&1 | $(PIP_LINES)
	@touch $@

.venv/has-docs: .venv/has-dev
	@$(PIP_INSTALL) '.[docs]' 2>&1 | $(PIP_LINES)
	@touch $@

# AgentScope 1.x and 2.x cannot be installed together.
.venv-agentscope2: pyproject.toml constraints.txt constraints-agentscope2.txt
	@$(PYTHON) -m venv $@
	@$@/bin/pip install --no-compile --disable-pip-version-check \
		--constraint <(grep -v ^agentscope== constraints.txt) \
		--constraint constraints-agentscope2.txt \
		--editable '.[local$(comma)server$(comma)dev]' agentscope 2>&1 | $(PIP_LINES)
	@touch $@

# verl with vLLM's CPU build. vLLM requires companions of torch that are not needed here, so every package
# is listed with its version, and no dependency is resolved.
.venv-verl: pyproject.toml constraints-verl.txt
	@$(PYTHON) -m venv $@
	@$@/bin/pip install --no-compile --disable-pip-version-check --no-deps \
		--requirement constraints-verl.txt 2>&1 | $(PIP_LINES)
	@$@/bin/pip install --no-compile --disable-pip-version-check --no-deps --editable . 2>&1 \
		| $(PIP_LINES)
	@touch $@

# Trinity-RFT needs an older verl than the one above; vLLM is the same.
.venv-trinity: pyproject.toml constraints-trinity.txt
	@$(PYTHON) -m venv $@
	@$@/bin/pip install --no-compile --disable-pip-version-check --no-deps \
		--requirement constraints-trinity.txt 2>&1 | $(PIP_LINES)
	@$@/bin/pip install --no-compile --disable-pip-version-check --no-deps --editable . 2>&1 \
		| $(PIP_LINES)
	@touch $@

# TRL, which benchmarks/math_agent.py compares with.
.venv-trl: benchmarks/peers/trl-constraints.txt
	@$(PYTHON) -m venv $@
	@$@/bin/pip install --no-compile --disable-pip-version-check --constraint $< torch trl 2>&1 \
		| $(PIP_LINES)
	@touch $@

# LiteLLM's proxy, which benchmarks/gateway.py compares with.
.venv-litellm: benchmarks/peers/litellm-constraints.txt
	@$(PYTHON) -m venv $@
	@$@/bin/pip install --no-compile --disable-pip-version-check --constraint $< \
		'litellm[proxy]' httptools 2>&1 | $(PIP_LINES)
	@touch $@

# Client libraries whose versions of OpenAI's SDK are other ones than ours.
.venv-clients: constraints-clients.txt
	@$(PYTHON) -m venv $@
	@$@/bin/pip install --no-compile --disable-pip-version-check --no-deps --requirement $< 2>&1 \
		| $(PIP_LINES)
	@touch $@

.PHONY: help demo examples tiny-models test test-slow test-browser test-agentscope2 test-vllm test-verl test-trinity test-install locks check format docs tiny-model chaos bench
