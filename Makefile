# `make compare` and `make test` work on a fresh machine: both first install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOLS := $(VENV)/.tools_installed
SHELL := bash

# Checks Python first: a wrong version is one line, and make exits with 2.
ifneq ($(filter-out help clean,$(or $(MAKECMDGOALS),compare)),)
ifneq ($(shell $(PYTHON) -c 'import sys; print((3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null),True)
$(error isoscale needs Python 3.11 to 3.14; '$(PYTHON)' is $(or $(shell $(PYTHON) -V 2>/dev/null),not found); choose another with: make PYTHON=/path/to/python3.12)
endif
endif

.PHONY: compare board doctor test setup tools test-fast parity mutations faults lint types benchmark coverage clean help

.DEFAULT_GOAL := compare

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

compare: setup ## run the default comparison
	$(BIN)/isoscale compare --recipe=default $(FLAGS)

board: setup ## show the newest study in TensorBoard (STUDY=name: another study)
	$(BIN)/isoscale board $(STUDY)

doctor: setup ## describe this machine and the frameworks, and list their known problems
	$(BIN)/isoscale doctor

# Each of two workers has its own cores; tests that need both run alone (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=10

test: lint types ## check style and types, then run all tests
	$(PYTEST)

test-fast: tools ## run the tests that take seconds
	$(PYTEST) -m "not slow"

parity: setup ## show that all frameworks, strategies and device counts compute the same results
	$(BIN)/isoscale parity $(FLAGS)

mutations: tools ## plant bugs, one at a time, and check that parity or a test finds each
	$(BIN)/python -m tests.mutations

faults: tools ## run all tests of faults: kills, attacks, damaged files, full disks
	$(PYTEST) --long tests/faults

benchmark: tools ## compare runners with hand-written steps, Keras and each other; write the tables
	$(BIN)/python -m tests.benchmarks
	$(BIN)/python -m tests.benchmarks.report_speed

coverage: tools ## simulate studies and count how often intervals and answers are right
	$(BIN)/python -m tests.benchmarks coverage

lint: tools ## check style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: tools ## check types
	env -u MYPYPATH -u PYTHONPATH $(BIN)/mypy

setup: $(STAMP) ## create .venv and install isoscale and the frameworks, with pinned versions

tools: $(TOOLS) ## also install the tools of the tests

# pip prints several lines for each package: here each package has one. Errors of pip stay visible.
FRAMEWORKS := '.[all,digits]'
SHOWN := ^ *(Collecting|Processing) [^ ]+|^Installing collected packages
PIP = set -o pipefail; $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
	--constraint constraints.txt --editable $(1) | (grep --line-buffered -oE '$(SHOWN)' || true)

$(STAMP): pyproject.toml constraints.txt
	@echo "Creating $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv --clear $(VENV)
	@mkdir -p $(VENV)/tree/isoscale
	@ln -s ../../../common ../../../models ../../../frameworks ../../../runs $(VENV)/tree/isoscale
	@echo "Getting isoscale, the frameworks and what they need (a minute or more)"
	@$(call PIP,$(FRAMEWORKS))
	@touch $(STAMP)
	@echo "isoscale is installed. To type its commands without a path: . $(BIN)/activate"

$(TOOLS): $(STAMP)
	@echo "Getting the tools of the tests"
	@$(call PIP,'.[dev]')
	@touch $(TOOLS)
	@echo "The tools of the tests are installed."

clean: ## remove the environment and caches; keep results
	rm -rf $(VENV) *.egg-info .pytest_cache .ruff_cache .mypy_cache
