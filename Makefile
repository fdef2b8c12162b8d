# make demo       a fresh clone to words on the screen
# make test       style, types and tests: what has to pass before a change lands
# make test-full  the slow tests as well
# make clean      everything that was built, downloaded packages excepted

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO   := src/lithophone/assets/demo/demo.flac

.PHONY: demo test test-full check clean

demo: $(VENV)/.demo
	$(BIN)/lithophone transcribe $(DEMO) --word-timestamps

test: check
	$(BIN)/python -m pytest

test-full: check
	$(BIN)/python -m pytest -m full

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache $(VENV)/.torch $(VENV)/.demo $(VENV)/.test
	find src tests recipes -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch by itself and first, so that the pinned release is the one that everything after it is resolved against.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	$(PIP) torch
	touch $@

$(VENV)/.demo: pyproject.toml $(VENV)/.torch
	$(PIP) --editable .
	touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[test]'
	touch $@ $(VENV)/.demo
