# Every target makes .venv itself; Python 3.11 or newer and make are all a machine needs.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := gateway persistence lifecycle distribution simulator demo dev
SOURCES := services libs tests bench deploy

.PHONY: help demo test check bench chaos fuzz lock

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "TickVault needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

demo: .venv/ready  ## Redis, two simulated providers, 128 symbols, the whole pipeline and a live view (DEMO_SECONDS=20 ends by itself)
	@$(BIN)/python -m deploy.demo

test: .venv/ready  ## all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/ready  ## style, types, layers
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32
	$(BIN)/lint-imports --no-cache

bench: .venv/ready  ## the tables of figures, and bench/results (peers of the store: .venv/bin/pip install '.[peers]')
	$(BIN)/python -m bench
	$(BIN)/python bench/storage.py
	$(BIN)/python bench/open_day.py
	$(BIN)/python -m docs.generate

chaos: .venv/ready  ## 100 rounds of kill -9, empty Redis, full disks and a hostile LP (CHAOS_SEED=N repeats a run)
	$(BIN)/python -m tests.chaos

fuzz: .venv/ready  ## ten minutes of damaged conversations at framer, decoder, books and session
	$(BIN)/python -m tests.fuzz

lock: .venv/ready  ## requirements.lock from pyproject.toml
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile -q pyproject.toml $(EXTRAS:%=--extra %) --universal --python-version 3.11 --generate-hashes -o requirements.lock
