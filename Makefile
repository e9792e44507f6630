# Two commands are all a newcomer types: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?=
VENV   ?= .venv
BIN    := $(VENV)/bin
ENV    := OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1

.PHONY: help setup demo test test-all check bench docs clean
help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready ## a virtual environment with everything that demo, test and check need

$(VENV)/.ready: pyproject.toml setup.py requirements/lock.txt scripts/setup $(wildcard src/isthmus/proxy/*.c)
	PYTHON=$(PYTHON) scripts/setup $(VENV)
	@touch $@

demo: $(VENV)/.ready ## the main job: word counts and a tiled Cholesky, by value and by proxy
	$(BIN)/isthmus demo

test: $(VENV)/.ready ## core, shared memory, files, Redis, Dask: minutes
	$(ENV) $(BIN)/python -m pytest -q -m "not large and not extras" tests

test-all: $(VENV)/.ready ## every extra and every interpreter that can be found
	scripts/test-all $(VENV)

check: $(VENV)/.ready ## format, lint, types, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(VENV)/.ready ## measure every target against its peer; minutes to an hour
	scripts/setup-extras .venv-extras $(BIN)/python
	scripts/setup-peers .venv-peers
	$(ENV) .venv-extras/bin/python -m benchmarks.run

docs: $(VENV)/.ready ## build the documentation into site/
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c requirements/lock.txt -r requirements/docs.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean: ## remove environments and build outputs
	rm -rf $(VENV) .venv-3.* .venv-extras .venv-peers .venv-colmena build site *.egg-info src/*.egg-info src/isthmus/proxy/*.so
