# One command each for set-up, benchmark, tests and checks; the same on a laptop and in CI.
# The set-up is repaired before each command and costs nothing when there is nothing to do.

PYTHON ?= python3
SCENARIO ?= intermittent
BIN := .venv/bin
MAKEFLAGS += --no-builtin-rules --no-print-directory

.DEFAULT_GOAL := help
.SILENT:
.PHONY: help setup bench test lint types check soak perf perf-gpu report up clean
# Folders of these names exist, and make would call them up to date.
.PHONY: tests servers scenarios reports

help: ## this list
	awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile
	echo
	echo "Variables: SCENARIO=NAME or FILE.toml, RUN=FOLDERS, ARGS=\"more arguments\","
	echo "PYTHON=python3.12 (default python3), TORCH=auto|cpu|default|installed|ADDRESS (see README)."

setup: ## install what is missing into .venv
	$(PYTHON) bench/bootstrap.py

bench: setup ## measure and report: make bench SCENARIO=intermittent
	$(BIN)/weighbridge run "$(SCENARIO)" $(ARGS)

report: setup ## make the report again: make report RUN=runs/NAME
	$(BIN)/weighbridge report $(RUN) $(ARGS)

up: setup ## start the local endpoints, for boto3 and curl
	$(BIN)/weighbridge up $(ARGS)

test: setup ## run the test suite
	$(BIN)/python -m pytest $(ARGS)

lint: setup ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## check types
	$(BIN)/mypy

check: lint types test ## all three

soak: setup ## the nightly forms of the crash tests: some minutes
	WEIGHBRIDGE_KILLS=200 WEIGHBRIDGE_OBJECT_MB=1024 \
	  $(BIN)/python -m pytest tests/test_async_crashes.py tests/test_asynchronous.py $(ARGS)
	WEIGHBRIDGE_KILLS=100 $(BIN)/python -m pytest tests/test_transform_kills.py $(ARGS)

perf: setup ## measure the instrument itself: what it costs, and how much load it can make
	$(BIN)/python tests/perf.py $(ARGS)

perf-gpu: setup ## the batched server against bare torch, on a machine with a GPU
	$(BIN)/python -m tests.perf_gpu $(ARGS)

clean: ## remove caches and build output; never runs/ and .venv/
	find . \( -path ./.venv -o -path ./runs -o -path ./.git \) -prune \
	  -o -type d -name __pycache__ -exec rm -rf {} +
	rm -rf .mypy_cache .ruff_cache .pytest_cache .coverage dist build *.egg-info
	echo "Removed caches and build output. Kept: runs/ (measurements) and .venv/ (remove it by hand)."
