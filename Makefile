# Two commands: `make demo` and `make test`. Both set up their own .venv first.
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
STAMP := .venv/.ready

.PHONY: demo test check test-slow test-parity test-oldest bench golden data clean

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

test-oldest:  # every lower bound of pyproject.toml at once; PYTHON=python3.12 where there is one
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet -c constraints-oldest.txt $(PIP_ARGS) -e '.[dev]'
	.venv-oldest/bin/python -m pytest

bench: $(STAMP)  # beside TRL and transformers, by turns: an hour on two cores
	$(BIN)/pip install --quiet -c constraints.txt $(PIP_ARGS) -e '.[parity]'
	$(BIN)/python benchmarks/vs_trl.py --task sft dpo reward --steps 72 --skip 8 --compile on
	$(BIN)/python benchmarks/vs_trl_grpo.py
	$(BIN)/python benchmarks/sampler.py --dtype bfloat16

golden: $(STAMP)  # the smoke recipe's numbers, after a change that is meant to change them
	$(BIN)/python tests/golden_smoke.py --rewrite

data: $(STAMP)  # the shipped rows, from what is written by hand and generated
	$(BIN)/python data/build.py

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt $(PIP_ARGS) torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt $(PIP_ARGS) -e '.[dev]'
	touch $(STAMP)

clean:
	rm -rf .venv .venv-oldest runs
