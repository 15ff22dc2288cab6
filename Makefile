# `make demo` and `make test` need Python 3.11 or newer, git and make; each makes .venv the first time.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
GOODS ?= $(PRICESMITH_GOODS)
TO ?= out/demo

.PHONY: demo demo-llm test check format lint types coverage docs bench clean

demo: $(VENV)/.demo
	$(BIN)/pricesmith demo --to $(TO)

demo-llm: $(VENV)/.demo-llm
	$(BIN)/pricesmith demo --llm --to $(TO)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile

# The share of lines and branches that the tests run; it must not fall below fail_under in pyproject.toml.
coverage: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile --cov

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Open out/site/index.html"

check: format lint types test

format: $(VENV)/.dev
	$(BIN)/ruff format --check .

lint: $(VENV)/.dev
	$(BIN)/ruff check .

# Its exit code is 2 if its processes do not start within 3 s, as on a busy machine: then it checks in one process.
types: $(VENV)/.dev
	$(BIN)/mypy || { test $$? = 2 && $(BIN)/mypy --num-workers 0; }

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/pricers.py --demo
	$(if $(GOODS),$(BIN)/python benchmarks/pricers.py --goods $(GOODS),@echo "Name a catalog with GOODS=file for the second table.")

clean:
	rm -rf $(VENV) build dist out src/*.egg-info

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Pricesmith needs Python 3.11 or newer: install it, or run make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# The marker files make a second run reuse the environment; a changed dependency list installs again. Python compiles a
# module when it is first imported; compiling all 20,000 of them here would take longer than the rest.
$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV): a minute or two the first time."
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.demo-llm: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[demo-llm]'
	@touch $@ $(VENV)/.demo

# pip 23, which comes with Python 3.11, takes twice the processor time of pip 26.
# Our own modules are compiled, because the processes that read files start often and write no compiled modules.
# Collecting the tests compiles the modules that they import and rewrites their asserts. Done here once, by two processes,
# because the processes of pytest-xdist collect at the same moment and each of them would do all of it.
FIRST_HALF := tests/pricers tests/base_models tests/exporting
$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check 'pip>=26'
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	@test -n "$$PYTHONDONTWRITEBYTECODE" || { \
	  $(BIN)/python -m compileall -q src; \
	  $(BIN)/python -m pytest --collect-only -q $(FIRST_HALF) >/dev/null 2>&1 & \
	  $(BIN)/python -m pytest --collect-only -q $(FIRST_HALF:%=--ignore=%) >/dev/null 2>&1 & \
	  wait; }
	@touch $@ $(VENV)/.demo

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@
