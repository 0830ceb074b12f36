# make demo: what trained models do, and an ID-GAN from its first image, in ten minutes.  make test: the tests.  make
# compare: the paper's eight systems.  All set themselves up and, stopped at any time, resume where they were.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m
# DeepSpeed's code for the CPU; in the folder that all share, a build that was killed leaves a lock that others wait for
export TORCH_EXTENSIONS_DIR := $(CURDIR)/.venv/torch_extensions
STARTED := $(shell date +%s)
VAE ?= shipped

.PHONY: demo demo-faces demo-growth results compare test test-fast test-use test-wheel test-faults test-cluster soak
.PHONY: test-planted test-gpu lint setup clean-demo clean-compare

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@bash tests/system_packages.sh $(PYTHON)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@rm -rf $(TORCH_EXTENSIONS_DIR)
	@DS_ACCELERATOR=cpu timeout 600 $(BIN)/python -c 'from deepspeed.comm.torch import build_shm_op; build_shm_op()' >/dev/null 2>&1 || \
		echo "DeepSpeed builds its code for the CPU at the first use"
	@touch $@

# VAE=own: the encoder is trained in the demo too, and no shipped one is used.
demo: setup
	$(RUN) trainer demo sprites --vae $(VAE) --started $(STARTED)

demo-faces demo-growth: demo-%: setup
	$(RUN) trainer demo $* --started $(STARTED)

# All models of pretrained/, trained and measured again: days. `python -m trainer experiments list results` says how long.
results: setup
	$(RUN) trainer experiments list results
	$(RUN) trainer experiments run results

compare: setup
	$(RUN) trainer experiments run dsprites_family --budget small --only 'plain-*'
	$(RUN) trainer experiments table dsprites_family --budget small --only 'plain-*'
	@echo "open results/dsprites_family/small/index.html"

# A process more than cores, two to four: a test often waits for another process. A file's tests stay in one, since they
# share what its fixtures train; tests/conftest.py puts the long files first.
WORKERS := $(shell echo $$(( $$(nproc) < 3 ? $$(nproc) + 1 : 4 )))
SPREAD = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: setup
	$(RUN) pytest $(SPREAD)

# A part of them in less than two minutes on 2 cores, which executes at least 60 % of the lines of every room. As many
# workers as cores: each imports torch, and few of these tests wait.
LEFT_OUT := zero1 or zero2 or zero3 or checkpointed or real_iterations or every_kind_of_run or sharding_pays \
	or killed_run or while_the_run_saves or other_systems or a_step_and_an_average \
	or images_and_days or a_checkpoint_has or shipped_models_at or a_signal_reaches
test-fast: WORKERS := $(shell nproc)
test-fast: setup
	rm -f .coverage .coverage.*
	MEASURE_LINES=pyproject.toml $(RUN) pytest $(SPREAD) --cov --cov-report= -m "not slow" -k "not ($(LEFT_OUT))" \
		$$(cat tests/fast.txt)
	$(RUN) tests.support.covered_rooms 60

# Situations from public reports of what broke programs of this kind.
test-use: setup
	$(RUN) pytest -n $(WORKERS) --dist worksteal tests/use

# The wheel in an environment of its own, run where the source is not.
test-wheel: setup
	$(RUN) pytest tests/wheel

# A fault at every point of an iteration, by each signal, under a replicated and a sharded strategy.
test-faults: setup
	$(RUN) pytest -n 3 --dist worksteal tests/faults

# The job scripts on a real Slurm of four nodes on this machine: Debian, as root.
test-cluster: setup
	$(RUN) pytest tests/cluster

# Not part of CI: a run of two nodes of the test cluster with a fault every minute.
soak: setup
	$(RUN) tests.cluster.soak --minutes $(or $(MINUTES),60) --seed $(or $(SEED),0)

# Thirty-seven mistakes of one line, planted one at a time: the tests named for each must fail.
test-planted: setup
	$(BIN)/python tests/planted/run.py

# Needs a GPU: without one it says so, runs nothing and fails.
test-gpu: setup
	$(RUN) pytest tests/gpu

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean-demo:
	rm -rf runs/demo data/demo data/demo-128 data/demo-faces

clean-compare:
	rm -rf runs/dsprites_family/small/plain-* results/dsprites_family/small/plain-*
