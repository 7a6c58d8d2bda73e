# GNU make. `make help` lists what there is. Every target sets up what it needs and may be repeated.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test test-cluster lint dist wheel benchmark clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# A change of what is installed gives the stamp another name, and `make setup` installs again.
READY := $(VENV)/ready-$(shell cat constraints.txt setup.py pyproject.toml | sha256sum | cut -c 1-16)
JAVA := $(if $(JAVA_HOME),$(JAVA_HOME)/bin/java,java)
APT_INSTALL := apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends
# Wheels carry the times of their files unless this is set.
export SOURCE_DATE_EPOCH ?= 315532800

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with the pinned packages, see that Java is there, fetch the Delta jars
	@true

$(READY):
	@[ -n "$(PYTHON)" ] && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed; name it with make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then $(APT_INSTALL) python3-venv; \
	  else echo "Python's venv module is not whole; install it, on Debian: apt-get install python3-venv" >&2; exit 1; fi; }
	@"$(JAVA)" -version >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then $(APT_INSTALL) openjdk-17-jre-headless; \
	  else echo "Java 17 is needed; install it, on Debian: apt-get install openjdk-17-jre-headless" >&2; exit 1; fi; }
	@"$(JAVA)" -version 2>&1 | grep -qE 'version "(1[7-9]|2[0-9])' \
	  || { echo "Java 17 is needed, this one is another; set JAVA_HOME" >&2; exit 1; }
	@[ -x $(BIN)/python ] || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	@rm -f $(VENV)/ready-*
	@echo "installing the pinned packages into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@echo "starting Spark once to fetch the Delta jars"
	@$(BIN)/python -c 'from jobs.session import start_session; start_session({}).stop()' \
	  || { echo "Spark did not start; set TREATMENT_LINES_ENGINE_LOG to a file, run make setup again and read it" >&2; exit 1; }
	@$(BIN)/python -m jobs.compile_kernels
	@touch $@

demo: setup ## synthetic Norwegian registers, the whole run, a report in out/demo (DEMO="--persons N --seed S --out DIR")
	@$(BIN)/treatment-lines demo $(DEMO)

test: setup ## the tests that start no servers (TESTS="tests/unit -k config")
	@$(BIN)/python -m pytest $(TESTS)

test-cluster: setup ## the tests that start a Spark cluster on 127.0.0.1
	@$(BIN)/python -m pytest -m cluster tests/cluster

lint: setup ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check jobs schemas expectations
	@$(BIN)/mypy

dist: setup ## dist/treatment_lines.zip for spark-submit --py-files; the same content gives the same bytes
	@$(BIN)/python setup.py --quiet zip
	@sha256sum dist/treatment_lines.zip

wheel: setup ## dist/treatment_lines-*.whl
	@rm -rf build
	@$(BIN)/python -m build --wheel --no-isolation >/dev/null
	@rm -rf build
	@sha256sum dist/*.whl

benchmark: setup ## lines against Spark's sort, Spark SQL and DuckDB; survival against R; ingest; changes (BENCHMARK="--people 125000 --repeats 1")
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[benchmark]'
	@$(BIN)/python -m benchmarks.lines $(BENCHMARK)
	@$(BIN)/python -m benchmarks.survival
	@$(BIN)/python -m benchmarks.ingest
	@$(BIN)/python -m benchmarks.changes

clean: ## remove everything that make made
	@rm -rf $(VENV) build dist out/demo *.egg-info spark-warehouse .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find jobs schemas expectations tests -name __pycache__ -type d -prune -exec rm -rf {} +
