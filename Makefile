# make demo: everything on dSprites in a quarter of an hour.   make test: the tests.   Both set themselves up.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m
DEMO := runs/demo/gan

.PHONY: demo test lint setup clean-demo

setup: .venv/installed

.venv/installed: pyproject.toml
	@bash tests/system_packages.sh $(PYTHON)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e '.[dev]'
	@touch $@

demo: setup
	$(RUN) data_shards make dsprites --out data/demo --count 60000
	$(RUN) trainer vae configs/demo/vae.yaml
	$(RUN) trainer gan configs/demo/gan.yaml
	$(RUN) evaluation disentanglement $(DEMO) --protocol short
	$(RUN) evaluation fid $(DEMO) --samples 10000 --of reals,gan,vae,untrained
	$(RUN) evaluation latents $(DEMO)
	$(RUN) evaluation figures $(DEMO)
	$(RUN) evaluation report $(DEMO) --out runs/demo/report
	@echo "open runs/demo/report/index.html"

test: setup
	$(RUN) pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean-demo:
	rm -rf runs/demo data/demo
