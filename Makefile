# Everything a developer runs. `make help` lists it. Needs Python 3.11 or newer and make.
SHELL := /bin/bash
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3 2>/dev/null))
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 4
DEMO := examples/h200_decoder
# tests start hundreds of processes, and without kept bytecode each compiles all of rocscope anew
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup dev demo test test-vllm test-browser coverage lint format pictures rules bench bench-smoke dist clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "rocscope needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml hatch_build.py
	$(BIN)/python -m pip install --quiet --editable .
	@$(BIN)/python -m rocscope.reports.chart_library
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

setup: $(VENV)/.installed ## make the virtual environment and install rocscope

dev: $(VENV)/.dev ## the same with the tools of developers

demo: setup ## the main job on a recording from a real GPU: reports in demo-out/
	@rm -rf demo-out
	$(BIN)/rocscope profile --profiler replay:$(DEMO)/kineto_strided_graph.json.gz \
	  --model $(DEMO)/w4_config.json --out demo-out -- $(BIN)/python examples/toy_decoder.py

test: dev ## the tests (under 4 minutes on 2 cores)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not vllm and not browser and not slow'

test-vllm: dev ## rocscope around a real vLLM on CPU (installs it once, outside the checkout)
	tests/vllm/setup_env.sh
	$(BIN)/python -m pytest -m vllm -rs --timeout 900 tests/vllm

test-browser: dev ## the report in real Chromium (Debian packages chromium and chromium-driver)
	$(BIN)/python -m pytest -m browser -rs tests/browser

coverage: dev ## these and the slow tests, with branch coverage of src, at least 90 %
	@rm -f .coverage .coverage.*
	ROCSCOPE_EXAMPLES=100 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not vllm and not browser' --cov --cov-report=term --cov-fail-under=90

lint: dev ## ruff, mypy --strict, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: dev ## let ruff format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

pictures: dev ## take the pictures of the README again (Chromium, fonts-dejavu-core)
	$(BIN)/python tests/browser/take_pictures.py docs/images

rules: dev ## write docs/rules.md from the rules' files
	$(BIN)/python -m rocscope.rule_pages > docs/rules.md

bench: dev ## the benchmarks, with their budgets
	@for each in benchmarks/bench_*.py; do $(BIN)/python $$each || exit 1; done

bench-smoke: dev ## the benchmarks on small data: that they run
	@for each in benchmarks/bench_*.py; do $(BIN)/python $$each --smoke || exit 1; done

dist: dev ## build the wheel and run it in an empty environment
	@rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	tests/house/try_wheel.sh dist/rocscope-*.whl

clean: ## remove what the targets made, but not the virtual environment
	rm -rf demo-out dist test-out .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
