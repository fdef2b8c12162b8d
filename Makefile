# make demo       install into .venv and transcribe a recording with the bundled model
# make test       style, types and the fast tests: what has to pass before a change lands
# make test-full  the slow tests: training runs, processes, the notebook, real sizes
# make test-all   both
# make clean      remove everything that was built, except downloaded packages

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# A process for each core, up to four; a file of tests stays in one process, since its tests share models.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile
DEMO   := src/lithophone/assets/demo/demo.flac

.PHONY: demo test test-full test-all check clean

demo: $(VENV)/.demo
	$(BIN)/lithophone transcribe $(DEMO) --word-timestamps
	@echo "The command is in $(VENV): source $(BIN)/activate, or call $(BIN)/lithophone" >&2

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) --durations=15

test-full: check $(VENV)/.test-full
	$(BIN)/python -m pytest -m full --durations=15

test-all: test
	$(MAKE) test-full

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache $(addprefix $(VENV)/,.torch .demo .test .test-full)
	find src tests recipes -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch by itself and first: everything after it is resolved against the pinned release.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	$(PIP) torch
	touch $@

$(VENV)/.demo: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[serve]'
	touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[test]'
	touch $@ $(VENV)/.demo

$(VENV)/.test-full: $(VENV)/.test
	$(PIP) --editable '.[test-full]'
	touch $@
