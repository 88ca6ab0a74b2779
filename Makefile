# `make demo` and `make test` need only python3 (3.11 or newer) and make.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SOURCES := src scripts tests benchmarks notebooks
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

SURVEY := output/survey
LINES := 110,135,160,185,210

survey: $(VENV)/installed  ## a simulated survey in SEG-Y: five labeled lines, U-Net, salt of all lines, score, page
	test -e $(SURVEY)/survey.sgy || $(BIN)/saltseg simulate-survey $(SURVEY)/survey.sgy
	$(BIN)/saltseg scan $(SURVEY)/survey.sgy
	$(BIN)/saltseg lines $(SURVEY)/survey.sgy --labels $(SURVEY)/survey_mask.sgy --inlines $(LINES) --step 25
	$(BIN)/saltseg run demo --data survey --set folds.scheme=grouped
	test -e $(SURVEY)/salt.sgy || $(BIN)/saltseg predict survey-demo $(SURVEY)/survey.sgy --to $(SURVEY)/salt.sgy
	$(BIN)/saltseg score-survey $(SURVEY)/salt_mask.sgy $(SURVEY)/survey_mask.sgy --without $(LINES)

lint: $(VENV)/installed-test  ## style and types
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

test: lint  ## lint, type check and all tests but the slow ones
	$(PYTEST) --dist worksteal -m "not slow"

# A file's slow tests share what they train, so they stay together and in order.
test-slow: $(VENV)/installed-test  ## the slow tests
	$(PYTEST) --dist loadfile -m slow

fuzz: $(VENV)/installed-test  ## damaged files, 2,000 for each reader: some minutes
	SALTSEG_FUZZ=2000 $(PYTEST) --dist worksteal tests/test_fuzz_files.py tests/data/test_fuzz.py

test-all: test test-slow fuzz  ## lint, type check and all tests

bench: $(VENV)/installed-test  ## speed as ratios; a quarter of an hour with nothing else running
	$(BIN)/python benchmarks/bench.py

clean:  ## remove caches and the environment; data and results stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info

.PHONY: help install demo survey lint test test-slow test-all fuzz bench clean
