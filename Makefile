# The one task vocabulary: people, hooks and CI all call these targets. `make` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.menagerie-setup
UV_VERSION := 0.13.8
CHECKED := $(wildcard src flows bento deployments tests benchmarks)

PROBLEM ?= sketches
DATA ?=
WEIGHTS ?=
ONCE ?=
TESTS ?= tests
WORKERS ?= 2

# Half of the time tests wait for servers. A file is a worker's alone; the longest files come first, as they are named.
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Nothing that runs here calls home.
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS := false
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export BENTOML_DO_NOT_TRACK := True
export GRADIO_ANALYTICS_ENABLED := False
export HF_HUB_OFFLINE := 1

.PHONY: help setup demo up down status test test-full lint lock bench-train bench-ablations bench-serve bench-swap bench-start bench-drift bench-queue bench-loop drill clean

help:  ## list the targets
	@awk 'BEGIN {FS = ":[^#]*## "} /^[a-z][a-z-]*:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make the environment in .venv (Python 3.11 and pip are all it needs)

$(STAMP): requirements.lock pyproject.toml
	@deployments/local/setup.sh "$(VENV)" "$(UV_VERSION)"
	@touch $@

demo: $(STAMP)  ## the loop, shown: make demo [PROBLEM=pets] [DATA=folder] [WEIGHTS=file] [ONCE=1]
	@$(BIN)/python -m deployments.local.demo --problem "$(PROBLEM)" \
	  $(if $(DATA),--data "$(DATA)") $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(ONCE),--once)

drill: $(STAMP)  ## the loop put to the test, each step asserted: make drill [PROBLEM=pets] [DATA=folder] [WEIGHTS=file]
	@$(if $(DATA),MENAGERIE_DATA="$(abspath $(DATA))") $(if $(WEIGHTS),MENAGERIE_WEIGHTS="$(abspath $(WEIGHTS))") \
	  $(BIN)/python -m deployments.local.drill --problem "$(PROBLEM)"

up: $(STAMP)  ## start Prefect, MLflow and the service: make up [PROBLEM=sketches,pets]
	@$(BIN)/python -m deployments.local.stack up $(if $(filter-out file,$(origin PROBLEM)),--problems "$(PROBLEM)")

down: $(STAMP)  ## stop them all
	@$(BIN)/python -m deployments.local.stack down

status: $(STAMP)  ## what runs, and where
	@$(BIN)/python -m deployments.local.stack status

test: $(STAMP)  ## run the tests, all but their large counts: make test [TESTS=tests/unit]
	@$(BIN)/python -m pytest $(PARALLEL) $(TESTS)

test-full: $(STAMP)  ## run the tests with their large counts
	@$(BIN)/python -m pytest $(PARALLEL) --full $(TESTS)

lint: $(STAMP)  ## ruff and mypy
	@$(BIN)/ruff check $(CHECKED)
	@$(BIN)/ruff format --check $(CHECKED)
	@$(BIN)/mypy

lock: $(STAMP)  ## resolve requirements.lock and requirements.serve.lock anew from pyproject.toml
	@deployments/local/lock.sh "$(VENV)"
	@$(BIN)/python -m deployments.serve_lock

bench-train: $(STAMP)  ## time training: make bench-train [PROBLEM=pets]
	@$(BIN)/python -m benchmarks.train $(if $(filter-out file,$(origin PROBLEM)),--problem "$(PROBLEM)")

bench-ablations: $(STAMP)  ## what helps in training: make bench-ablations [PROBLEM=pets]
	@$(BIN)/python -m benchmarks.ablations $(if $(filter-out file,$(origin PROBLEM)),--problem "$(PROBLEM)")

bench-serve: $(STAMP)  ## time the service and its peers: make bench-serve [PROBLEM=pets]
	@$(BIN)/python -m benchmarks.serve $(if $(filter-out file,$(origin PROBLEM)),--problem "$(PROBLEM)")

bench-swap: $(STAMP)  ## swap models under load and check every answer: make bench-swap [PROBLEM=sketches]
	@$(BIN)/python -m benchmarks.swap $(if $(filter-out file,$(origin PROBLEM)),--problem "$(PROBLEM)")

bench-start: $(STAMP)  ## time starting the service, and its memory: make bench-start [PROBLEM=pets]
	@$(BIN)/python -m benchmarks.start $(if $(filter-out file,$(origin PROBLEM)),--problem "$(PROBLEM)")

bench-drift: $(STAMP)  ## how often the drift check is right, beside its peers
	@$(BIN)/python -m benchmarks.drift

bench-queue: $(STAMP)  ## what 100 labels chosen by the review queue are worth
	@$(BIN)/python -m benchmarks.queue

bench-loop: $(STAMP)  ## time the drill: make bench-loop [PROBLEM=pets]
	@$(BIN)/python -m benchmarks.loop $(if $(filter-out file,$(origin PROBLEM)),--problem "$(PROBLEM)")

clean:  ## remove caches and build outputs; .venv and .menagerie (data, journal, models) stay
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
