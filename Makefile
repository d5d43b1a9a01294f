# Everything runs in a virtual environment, .venv. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
# Installs in seconds what takes pip most of a minute.
UV_VERSION := 0.13.9
# The pins name every package: there is nothing to resolve.
PROJECT := --no-deps -r requirements-dev.txt --editable .

# Without bytecode each command would compile Dagster anew, which takes seven seconds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup lint format test torture fuzz demo bench bench-compare bench-search bench-reconcile \
    bench-transform bench-compression bench-runs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

setup: $(INSTALLED) ## Install the project and its tools in .venv, if anything has changed

$(INSTALLED): requirements.txt requirements-dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo >&2 "$(PYTHON) is not on the PATH." \
	    "Install Python 3.11 or newer, or name one: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo >&2 "$(PYTHON)" \
	    "is $$($(PYTHON) --version 2>&1), and Python 3.11 or newer is needed." \
	    "Name another: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo >&2 "$(PYTHON) cannot make" \
	    "virtual environments. On Debian and Ubuntu: sudo apt-get install python3-venv"; exit 1; }
	@echo "Installing into $(VENV)"
	@rm -f $@
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install uv==$(UV_VERSION)
# uv knows nothing of pip's configuration, such as an index of one's own.
	@$(UV) $(PROJECT) || $(PIP) install --no-compile $(PROJECT)
	@touch $@

lint: setup ## Check format, style and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/black --quiet --check --diff .
	@$(BIN)/flake8

format: setup ## Format the code, and repair what can be repaired by itself
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

# What takes longest begins first: nobody is to wait for it at the end.
test: lint ## Check, and run the whole test suite against servers of its own
	@$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder tests/acceptance tests

torture: setup ## Try to lose a row (SEEDS=200: how many runs; SEED=7: that one alone)
	@$(BIN)/python -m tests.torture $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),20)) \
	    $(if $(FIRST),--first $(FIRST)) $(if $(JOBS),--jobs $(JOBS))

fuzz: setup ## Ask the search service whatever there is to ask (SECONDS=600, EXAMPLES=5000)
	@FUZZ_SECONDS=$(or $(SECONDS),600) FUZZ_EXAMPLES=$(or $(EXAMPLES),5000) $(BIN)/pytest \
	    tests/integration/search/test_schemathesis.py tests/integration/search/test_fuzz.py

demo: setup ## Load and search the demo's tables (DEMO_EXIT=1: stop after the searches)
	@$(BIN)/python -m dev.demo

bench: setup ## Measure everything, for most of an hour (ROUNDS=5 SCALE=1 SEED= TABLES=: docs/benchmarks.md)
	@$(BIN)/python -m benchmarks $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SCALE),--scale $(SCALE)) \
	    $(if $(SEED),--seed $(SEED)) $(if $(TABLES),--tables $(TABLES))

bench-search: setup ## Measure the search service beside Elasticsearch (ROUNDS=5 SCALE=1 LENGTH=1 WORKERS=1 SEED=)
	@$(BIN)/python -m benchmarks.service $(if $(ROUNDS),--rounds $(ROUNDS)) \
	    $(if $(SCALE),--scale $(SCALE)) $(if $(LENGTH),--length $(LENGTH)) \
	    $(if $(WORKERS),--workers $(WORKERS)) $(if $(SEED),--seed $(SEED))

bench-compare: setup ## Tell what became slower or larger from A=… to B=…, files of `make bench`
	@$(BIN)/python -m benchmarks.compare $(A) $(B)

bench-reconcile: setup ## Measure how fast both sides are compared
	@$(BIN)/python -m benchmarks.reconcile

bench-runs: setup ## Measure Dagster: from a tick to a searchable change, and a run of 1,000 partitions
	@$(BIN)/python -m benchmarks.runs

bench-transform: setup ## Measure what a transform costs a load
	@$(BIN)/python -m benchmarks.transform

bench-compression: setup ## Measure what compressed requests cost, and where they pay
	@$(BIN)/python -m benchmarks.compression

clean: ## Delete .venv, caches and builds; data in .stack and .dagster stay
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.stack/*' -prune -exec rm -rf {} +
