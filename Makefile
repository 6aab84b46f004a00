# make demo       environment, then digits: train, evaluate, sample
# make test       environment with the test tools, lint, tests
# make test-all  the same with the tests marked `long`, which repeat others at length
# make docs       environment with the test tools, the documentation in docs/_build/html
# make soak       what damages and kills at full length: every write, 200 kills, 500
#                 flips, 20 times the fuzzing (two hours)

PYTHON ?= python3
VENV ?= .venv
WORKDIR ?= runs/digits
# Each worker has a half in its order, so that what a module's tests share is made once;
# who has finished takes from the end of the other's.
PYTEST_ARGS ?= -n auto --dist=worksteal
TESTS ?= not long
bin := $(VENV)/bin

.PHONY: demo test test-all docs soak lint clean

demo: $(VENV)/.installed
	$(bin)/python -m experiments.train --config=configs/digits.py --workdir=$(WORKDIR)
	$(bin)/python -m experiments.evaluate --workdir=$(WORKDIR) --metrics=bound,importance
	$(bin)/python -m experiments.sample --workdir=$(WORKDIR) --seeds=0-63 --num_steps=20 --out=$(WORKDIR)/samples.png

test: $(VENV)/.installed-dev lint
	$(bin)/python -m pytest $(PYTEST_ARGS) -m "$(TESTS)"

test-all: TESTS = slow or not slow
test-all: test

docs: $(VENV)/.installed-dev
	$(bin)/python -m sphinx -b html -q -W --keep-going docs docs/_build/html
	@echo "open docs/_build/html/index.html"

soak: $(VENV)/.installed-dev
	INFUSION_JAX_SOAK=1 INFUSION_JAX_FUZZ=20 $(bin)/python -m pytest -s tests/reliability tests/paper/test_runner.py

lint: $(VENV)/.installed-dev
	$(bin)/ruff check .
	$(bin)/ruff format --check .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(bin)/pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(bin)/pip install --quiet --no-compile --editable ".[dev,docs,notebook]"
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build docs/_build *.egg-info
