# A dozen targets; `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Some machines forbid Python to keep bytecode; without it every process compiles everything anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install run test soak check lint types format migrations bench schema clean

help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(VENV)/.installed ## Install Python and front-end packages by their lock files

$(VENV)/.installed: requirements.lock package-lock.json deploy/install.sh
	@PYTHON=$(PYTHON) bash deploy/install.sh
	@touch $@

run: install ## Start everything on this machine; Ctrl-C stops it
	@exec $(BIN)/python -m governance.launcher

test: install ## Run the whole suite on a throw-away database
	@bash deploy/test-tools.sh
	$(BIN)/python -m pytest -q -n 3

soak: install ## Load while things break (SOAK_S=600), and other servers
	$(BIN)/python -m pytest -q -s -p no:xdist -m soak

check: lint migrations ## What CI runs
	@$(MAKE) --no-print-directory -j2 types test

lint: install ## Ruff, and the floors of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: install ## Strict types
	@$(BIN)/python -m tests.settings_for_tools mypy .

migrations: install ## Fail when a model changed without its migration
	@$(BIN)/python -m tests.settings_for_tools makemigrations

format: install ## Lay the code out and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## Measure; NAME=gateway measures one
	$(BIN)/python -m benchmarks $(NAME)

schema: install ## Write the OpenAPI document to docs/openapi.yaml
	@$(BIN)/python -m tests.settings_for_tools schema

clean: ## Remove what the build made (not your data)
	rm -rf $(VENV) node_modules .cache .pytest_cache .mypy_cache .ruff_cache
