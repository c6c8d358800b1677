# make train ARGS="corruption.sigma=0.5": ARGS is appended to the command of a target.
PYTHON ?=
WORKERS ?= 2
ARGS ?=

python := .venv/bin/python
installed := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install train test check soak clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(installed) ## .venv with the project in it, at the versions of constraints.txt

$(installed): pyproject.toml constraints.txt .ci/install
	@PYTHON="$(PYTHON)" .ci/install
	@touch $@

train: $(installed) ## the default experiment: embedded clips, a tiny Wan, minutes on 2 cores
	$(python) -m interp_refiner.train +experiment=gt_keyframes $(ARGS)

test: check ## lint, types and tests, minutes on 2 cores
	OMP_NUM_THREADS=1 $(python) -m pytest -n $(WORKERS) $(ARGS)

check: $(installed) ## lint, format and types
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m mypy

soak: $(installed) ## the long checks that make test leaves out
	$(python) -m pytest -m soak --timeout=7200 $(ARGS)

clean: ## removes caches and built wheels; runs, data and .venv stay
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
