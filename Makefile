# Two commands: `make demo` and `make test`. Both set up their own .venv first.
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
STAMP := .venv/.ready

.PHONY: demo test check test-slow test-parity bench data clean

demo: $(STAMP)
	$(BIN)/posttrain run recipes/assistant.yaml

test: check
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python data/build.py --check

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

test-parity: $(STAMP)  # TRL's loss code beside ours
	$(BIN)/pip install --quiet -c constraints.txt $(PIP_ARGS) -e '.[parity]'
	$(BIN)/python -m pytest -m parity

data: $(STAMP)  # the shipped rows, from what is written by hand and generated
	$(BIN)/python data/build.py

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt $(PIP_ARGS) torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt $(PIP_ARGS) -e '.[dev]'
	touch $(STAMP)

clean:
	rm -rf .venv runs
