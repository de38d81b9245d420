# Every target works alone on a fresh machine: it makes .venv first where that is missing.
PYTHON ?= python3
PROFILE ?= quick
BIN := .venv/bin

.PHONY: help reproduce test test-slow lint notebooks figures bench book clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

reproduce: .venv/.installed  ## every figure and table: make reproduce PROFILE=smoke|quick|paper|record JOBS=2
	$(BIN)/python -m fastls reproduce --profile $(PROFILE) $(if $(JOBS),--jobs $(JOBS))

test: .venv/.installed  ## the tests that take some minutes, on all cores, and the examples in docstrings
	$(BIN)/python -m pytest -n auto --dist worksteal tests fastls README.md docs

test-slow: .venv/.installed  ## the others: run every notebook; redraw everything in a fresh clone, and compare
	$(BIN)/python -m pytest -m slow -n auto --dist worksteal tests

lint: .venv/.installed  ## style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

notebooks: .venv/.installed  ## execute the committed notebooks again, from the committed runs, and stamp them; exercises too
	$(BIN)/python -m fastls exercises
	FASTLS_STORED_ONLY=1 $(BIN)/python -m fastls notebooks

figures: .venv/.installed  ## draw the committed figures and tables from the committed runs; trains nothing
	FASTLS_STORED_ONLY=1 $(BIN)/python -m fastls reproduce --profile record --device cpu
	FASTLS_STORED_ONLY=1 $(BIN)/python -m fastls bench --record --device cpu > /dev/null
	$(BIN)/python -m fastls front-page

bench: .venv/.installed  ## what a step of every method costs on this machine: build/bench
	$(BIN)/python -m fastls bench

book: .venv/.book  ## the web book from the committed notebooks, and its slides: build/book/index.html
	$(BIN)/sphinx-build -q -c docs . build/book
	$(BIN)/sphinx-build -q -b revealjs docs/slides build/book/slides

clean:  ## what was built; data, runs and .venv stay
	rm -rf build .pytest_cache .ruff_cache

.venv/.installed: requirements.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit("fastls needs Python 3.11 to 3.13, found %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements.txt
	@touch $@

.venv/.book: .venv/.installed
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e ".[book]"
	@touch $@
