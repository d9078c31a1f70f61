# Three things a newcomer needs: `make train`, `make test`, `make lint`. Each sets up .venv by itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RECIPE ?= quickstart
TRAIN_FLAGS ?=

.PHONY: setup train test test-all test-cluster chaos lint format docs docs-serve clean

setup: $(STAMP)

# torch first and by its exact version: a later resolver step then finds it satisfied, and nothing
# pulls a build for another kind of hardware behind the user's back.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "repertory needs Python 3.11 or newer; this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt "$$(grep '^torch==' constraints.txt)" "$$(grep '^numpy==' constraints.txt)"
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

train: setup
	$(BIN)/repertory train $(RECIPE) $(TRAIN_FLAGS)

test: setup
	$(BIN)/python -m pytest -q

test-all: setup
	$(BIN)/python -m pytest -q -m ""

# Several hosts as network namespaces on this machine: wants root, takes minutes.
test-cluster: setup
	$(BIN)/python -m pytest -q -m cluster tests/cluster

# Ten minutes of a run whose parts are killed at random; ends with 0 when its books are right.
chaos: setup
	$(BIN)/repertory bench chaos

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The documentation as a site in site/; a warning is an error. With `docs-serve` it follows your edits.
docs: setup
	$(BIN)/python -m zensical build --strict --clean

docs-serve: setup
	$(BIN)/python -m zensical serve

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .cache site
