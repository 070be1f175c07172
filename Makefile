# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
# The build of PyTorch to install; TORCH_INDEX names another index, for instance PyTorch's own for
# its CPU wheels (TORCH='torch' TORCH_INDEX=<url of the index>).
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Debian packages that some tests need; without them those tests skip.
TEST_PACKAGES := chromium munge slurm-wlm slurmdbd mariadb-server-core postgresql
# The scripts that draw a study; the other figure is of docs/data.
OF_STUDY := $(filter-out analysis/style.py analysis/law_example.py, $(wildcard analysis/*.py))
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: help setup demo test quick test-deps check figures golden bench clean

help:
	@echo "make setup      .venv with everything installed"
	@echo "make demo       set up, run the demonstration study, write runs/demo/report/report.html"
	@echo "make test       set up, run all tests"
	@echo "make quick      the tests that take seconds"
	@echo "make check      format, lint, types and the quick tests"
	@echo "make figures    draw the figures of runs/demo again"
	@echo "make golden     write the golden numbers again (a change of numbers: say why)"
	@echo "make bench      speed against an eager transcription, and memory, as ratios"
	@echo "make test-deps  install the Debian packages that some tests need"
	@echo "make clean      remove .venv, caches and drawn figures; runs/ stays"

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "trm_lab needs Python 3.11 or newer; name one with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	$(BIN)/pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

setup: $(READY)

demo: $(READY)
	$(BIN)/trm-lab demo

test: $(READY)
	$(BIN)/pytest -n 3

quick: $(READY)
	$(BIN)/pytest -n 2 -m "not slow"

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 -m "not slow"

figures: $(READY)
	for script in $(OF_STUDY); do $(BIN)/python $$script runs/demo --out figures || exit 1; done

golden: $(READY)
	$(BIN)/python -m tests.golden.regenerate

bench: $(READY)
	$(BIN)/python bench/core.py
	$(BIN)/python bench/memory.py

test-deps:
	@missing=""; for p in $(TEST_PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then $(SUDO) apt-get update -q && \
	  DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -q --no-install-recommends $$missing; fi

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist figures
	find . -name __pycache__ -type d -not -path './.git/*' -exec rm -rf {} +
