# `make demo` and `make test` need only python3 (3.11 or newer) and make.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SOURCES := src scripts tests benchmarks
# A worker and a thread for each core: more threads wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

.DEFAULT_GOAL := help

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The stamps make a second call free: nothing is installed again until the project's own files change.
$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; run: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

install: $(VENV)/installed  ## create .venv and install saltseg

demo: $(VENV)/installed  ## everything on synthetic data: images, U-Net, post-processing, submission, score, page
	$(BIN)/saltseg prepare --source synthetic --train 300 --test 100
	$(BIN)/saltseg run demo --data synthetic

lint: $(VENV)/installed-test  ## style and types
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

test: lint  ## lint, type check and all tests but the slow ones
	$(PYTEST) --dist worksteal -m "not slow"

# A file's slow tests share what they train, so they stay together and in order.
test-slow: $(VENV)/installed-test  ## the slow tests
	$(PYTEST) --dist loadfile -m slow

test-all: test test-slow  ## lint, type check and all tests

bench: $(VENV)/installed-test  ## speed as ratios; a quarter of an hour with nothing else running
	$(BIN)/python benchmarks/bench.py

clean:  ## remove caches and the environment; data and results stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info

.PHONY: help install demo lint test test-slow test-all bench clean
