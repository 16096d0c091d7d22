# make run    set up a virtual environment, run the main job, say where its report lies
# make test   set up what tests need, run them all
# make lint   check style and types
# make docs   build the documentation into site/
# make edge-demo    let the daemon learn on a drifting client, for two minutes
# make bench  measure and report the figures that README and docs quote
# make clean  remove everything that make made

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test lint docs bench edge-demo clean

run: $(VENV)/.installed-all
	@echo "Running the main job: real models on a drifting stream, seven allocators, about a minute."
	@$(BIN)/orric run simulations/quickstart.toml

test: $(VENV)/.installed-dev
	@echo "Running all tests, some minutes on two cores."
	@$(BIN)/python -m pytest -n auto

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

edge-demo: $(VENV)/.installed-all
	@$(BIN)/python simulations/edge_demo.py

bench: $(VENV)/.installed-dev
	$(BIN)/python tests/benchmarks/start_up.py
	$(BIN)/python tests/benchmarks/learning_gain.py
	$(BIN)/python tests/benchmarks/swap.py
	$(BIN)/python tests/benchmarks/latency.py
	$(BIN)/python tests/benchmarks/optimum.py
	$(BIN)/python tests/benchmarks/theorems.py
	$(BIN)/python tests/benchmarks/adversary.py
	$(BIN)/python tests/benchmarks/regimes.py
	$(BIN)/python tests/benchmarks/arrivals.py
	$(BIN)/python tests/benchmarks/simulation.py
	$(BIN)/python tests/benchmarks/priority.py
	$(BIN)/python tests/benchmarks/load.py
	$(BIN)/python tests/benchmarks/timeliness.py
	$(BIN)/python tests/benchmarks/joint.py
	$(BIN)/python tests/benchmarks/sweeps.py
	$(BIN)/python tests/benchmarks/behaviour.py
	$(BIN)/python tests/benchmarks/reports.py
	$(BIN)/python tests/benchmarks/headroom.py
	$(BIN)/python tests/benchmarks/edge.py
	$(BIN)/python tests/benchmarks/serving.py
	$(BIN)/python tests/benchmarks/front.py
	$(BIN)/python tests/benchmarks/restarts.py
	$(BIN)/python tests/benchmarks/selecting.py --output $(VENV)/selecting.jsonl
	$(BIN)/python tests/benchmarks/valuation.py
	$(BIN)/python tests/benchmarks/explanation.py
	$(BIN)/python tests/benchmarks/drift_signal.py
	$(BIN)/python tests/benchmarks/allocators.py --output $(VENV)/allocators.jsonl
	$(BIN)/python tests/benchmarks/thief.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "orric needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12" >&2; exit 2; }
	@echo "Making a virtual environment in $(VENV)."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-all: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing orric and what it runs on into $(VENV); the first time this takes some minutes."
	@$(INSTALL) --editable '.[all]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing orric and what its tests need into $(VENV); the first time this takes some minutes."
	@$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed-all

clean:
	rm -rf $(VENV) results site .pytest_cache .mypy_cache .ruff_cache .hypothesis
