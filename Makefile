# From a fresh clone: `make demo` or `make test`. Needs make, pip and a Python 3.11 to 3.13.
# Another Python: `make test PYTHON=/path/to/python`. The environment lives in .venv; `make clean` removes it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
EXTRAS := all,examples,test,lint
PYTEST_ARGS ?=
QUICK ?=

# The first of these that runs and is of a version we support (a pyenv shim may exist and yet not run).
PYTHON ?= $(shell for candidate in python3.11 python3.12 python3.13 python3 python; do \
	$$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$candidate && break; done)

export TF_CPP_MIN_LOG_LEVEL ?= 3

.NOTPARALLEL:
.PHONY: help demo test test-keras3 test-legacy test-targets test-golden test-reference coverage lint format catalogue numerics benchmark clean

help:  ## This list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

demo: $(VENV)/.installed  ## Train, quantize, export and run a digit detector (15 minutes; QUICK=1: a smoke run of two)
	$(BIN)/python examples/quickstart.py $(if $(QUICK),--quick)

test: test-keras3 test-legacy  ## The tests, with Keras 3 and then with tf_keras

test-keras3: $(VENV)/.installed  ## The tests, with Keras 3
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

test-legacy: $(VENV)/.installed  ## The tests, with tf_keras
	TF_USE_LEGACY_KERAS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

test-targets: $(VENV)/.installed  ## What `make test` leaves out: slow tests, and the cases it takes with the other Keras only
	$(BIN)/python -m pytest -n 2 --dist worksteal -m exhaustive $(PYTEST_ARGS)
	TF_USE_LEGACY_KERAS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m exhaustive $(PYTEST_ARGS)

test-golden: $(VENV)/.installed  ## Every file of the golden record, with both Kerases: have exported files changed? (tests/golden)
	$(BIN)/python -m tests.golden.record --check
	TF_USE_LEGACY_KERAS=1 $(BIN)/python -m tests.golden.record --check

test-reference: $(VENV)/.installed-reference  ## Numerics against timm, torchvision and others, all names (installs torch; REFERENCE_PART=2/6: a part)
	$(BIN)/python -m pytest -n 2 tests/reference $(PYTEST_ARGS)

coverage: $(VENV)/.installed  ## `make test` under coverage, against the floor in pyproject.toml
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)
	TF_USE_LEGACY_KERAS=1 $(BIN)/coverage run -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

numerics: $(VENV)/.installed-reference  ## Write docs/numerics.md anew, from what `make test-reference` measured
	$(BIN)/python tests/reference/numerics_table.py

lint: $(VENV)/.installed  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed  ## Put the code in ruff's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

catalogue: $(VENV)/.installed  ## Write docs/catalogue.md anew, from the registry
	$(BIN)/python -m resnet_backbones.backbones.catalogue_tables > docs/catalogue.md.part
	mv docs/catalogue.md.part docs/catalogue.md

benchmark: $(VENV)/.installed  ## Side by side with peers; tables under runs/
	@ls benchmarks/*.py >/dev/null 2>&1 || { echo "There are no benchmarks yet."; exit 1; }
	@for script in benchmarks/*.py; do $(BIN)/python $$script; done

clean:  ## Remove the environment, builds and caches; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found. Install one, or: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Made again only when what is installed changes; the install is editable, so code needs no second one.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV): a few minutes the first time."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

# torch from wherever pip looks first; then what goes with it, without letting them choose another torch.
$(VENV)/.installed-reference: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch safetensors huggingface_hub pyyaml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps torchvision timm pytorchcv
	@touch $@
