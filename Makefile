# Needs make and Python 3.11 or newer. Java and Maven (for a real Kafka), Chromium and kcat are used where they are there.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
KAFKA_PORT ?= 9092
ARGS ?=
# Most tests wait for a broker most of the time, so more of them than cores run at once. In the order of their folders: the slow
# ones come first, and no process is left with one of them in the end.
# The processes have to agree on the order of the tests, which some make from sets: hence the hash seed.
WORKERS ?= 4
# tests/integration/test_postgresql.py runs the site on PostgreSQL; `make test` has it too.
DATABASE_TESTS := $(addprefix tests/unit/test_,models.py migrations.py compile.py live.py live_start.py kept.py checks.py) \
	$(addprefix tests/integration/test_,admin_*.py importzilla.py)
# Each module of core/ has tests of its own, which are named after it.
CORE_TESTS = $(foreach each,$(wildcard kafkaproxy/core/[a-z]*.py),$(wildcard tests/unit/test_$(basename $(notdir $(each)))*.py))
MEASURED ?= tests/unit
BIN := $(VENV)/bin
# setuptools warns at length about what an editable installation is.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo check test coverage coverage-core matrix postgresql docs kafka lint format clean

help: ## Show what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: $(VENV)/.demo ## Serve the demo at 127.0.0.1:8000 (PORT=8001 for another port)
	@exec $(BIN)/python manage.py demo --port $(PORT)

check: $(VENV)/.test $(VENV)/.lint ## Check what you changed: style, imports, types, its unit tests (SINCE=main~3)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports
	$(BIN)/mypy
	@tests=$$($(BIN)/python .ci/changed_tests.py $(SINCE)) || exit; \
	if [ -z "$$tests" ]; then echo "No unit test imports what changed."; \
	else PYTHONHASHSEED=0 $(BIN)/python -m pytest -q -n $(WORKERS) -m "not kafka" $$tests; fi

# Tests start some hundred servers: compiled once, each starts with half of the work.
test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/.test ## Run every test (ARGS="-k etag" for some)
	PYTHONHASHSEED=0 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

coverage: coverage-core ## Measure the unit tests: every branch of the core, and a floor for the rest (MEASURED=tests)
	PYTHONHASHSEED=0 $(BIN)/coverage run -m pytest -q -n $(WORKERS) $(MEASURED)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

coverage-core: $(VENV)/.test
	mkdir -p .cache
	rm -f .cache/coverage*
	$(BIN)/coverage run -m pytest -q -n $(WORKERS) $(CORE_TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --show-missing --fail-under=100 --include='kafkaproxy/core/*'

matrix: ## Run the unit tests on each Python and Django that this machine has
	.ci/matrix

postgresql: $(VENV)/.test ## Run the tests of models, live table and admin on a PostgreSQL of its own
	PYTHONHASHSEED=0 $(BIN)/python -m tests.support.postgresql $(BIN)/python -m pytest -n $(WORKERS) $(DATABASE_TESTS) $(ARGS)

docs: $(VENV)/.demo ## Write the pages of docs/reference that are made from the code
	for each in docs/reference/make_*.py; do $(BIN)/python $$each || exit; done

kafka: $(VENV)/.test ## Run Apache Kafka in the foreground (KAFKA_PORT=9092)
	@exec $(BIN)/python -m tests.kafka --port $(KAFKA_PORT)

lint: $(VENV)/.test $(VENV)/.lint ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python manage.py makemigrations --check --dry-run

format: $(VENV)/.lint ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the environment, caches and the demo's data
	rm -rf $(VENV) .demo .cache .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info

$(VENV)/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.pip
	$(PIP) --editable . --group demo
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.pip
	$(PIP) --editable . --group demo --group test
	@touch $@

$(VENV)/.lint: pyproject.toml | $(VENV)/.pip
	$(PIP) --group lint
	@touch $@
