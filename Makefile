# Every verb a newcomer needs: `make demo`, then `make test`. All of it runs inside .venv, from the hash-locked requirements.lock.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The first interpreter that fits; say `make PYTHON=/path/to/python3.12 demo` to choose.
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && { echo "$$p"; break; }; done)

.PHONY: help install demo test test-slow lint types check lock clean

help:            ## list the verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

install: $(STAMP)  ## create .venv from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 with venv and ensurepip found; install one (Debian, Ubuntu: python3-venv) or say make PYTHON=... install" >&2; exit 2; }
	test -x $(BIN)/uv || $(BIN)/python -c 'import pip' 2>/dev/null || "$(PYTHON)" -m venv --clear $(VENV)  # also where an earlier try was cut short
	test -x $(BIN)/uv || { awk '/^uv==/{p=1} p{print} p&&!/\\$$/{exit}' requirements.lock > $(VENV)/uv.lock \
	    && $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock; }
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python -e .
	@touch $(STAMP)

demo: install    ## the whole way on scikit-learn's handwritten digits, a few minutes on 2 cores
	$(BIN)/orchestrate run

test: install    ## the fast tests: no GPU, no network, no data folder
	$(BIN)/python -m pytest

test-slow: install  ## minutes of work, real data where it is at hand, a real browser
	$(BIN)/python -m pytest -m "slow and not gpu"

lint: install    ## ruff, rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install   ## mypy, strict
	$(BIN)/mypy

check: lint types test  ## what the continuous integration runs

lock: install    ## resolve requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	    --exclude-newer "$$(date -u -d '7 days ago' +%F 2>/dev/null || date -u -v-7d +%F)" --upgrade -o requirements.lock

clean:           ## remove the environment and the caches (never runs/)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist
