# The front door. `make demo` and `make test` do all set-up by themselves on a machine with Python 3.10 or newer.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
ENVS := floor edot adot logfire plain declarative clients
# The oldest supported Python where the machine has it: the floor environment runs on it.
FLOOR_PYTHON ?= $(shell for python in python3.10 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.10.*/bin/python; do \
    "$$python" -c '' >/dev/null 2>&1 && echo "$$python" && exit; done; echo $(PYTHON))
TESTS ?= tests
FLOOR_TESTS ?= tests/unit tests/golden tests/parity
# Tests that wait leave the cores to others; who has run out of tests takes from those who have many left.
PYTEST_FLAGS ?= -n 4 --dist worksteal
# Otherwise each of the hundreds of processes that tests start compiles anew what it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: #: this list
	@sed -n 's/^\([a-z-]*\):.*#: \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'

# --- environments ------------------------------------------------------------------------------------------------

$(UV):
	@echo "Setting up $(VENV) …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "otel-posthog needs Python 3.10 or newer; name one: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@if command -v uv >/dev/null 2>&1 && [ "$$(uv --version | cut -d' ' -f2)" = "$(UV_VERSION)" ]; then \
	    ln -sf "$$(command -v uv)" $(UV); \
	else \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
	fi

# What is installed where is recorded by the digest of its lock, so that a second `make` does nothing.
# install_env(folder, lock)
define install_env
	@want=$$(cat requirements/$(2).txt pyproject.toml otel_posthog/version.py | cksum | tr ' ' '-'); \
	if [ "$$(cat $(1)/.installed 2>/dev/null)" != "$(2)-$$want" ]; then \
	    echo "Installing $(2) into $(1) …" && \
	    $(UV) pip install --quiet --python $(1)/bin/python --require-hashes -r requirements/$(2).txt && \
	    $(UV) pip install --quiet --python $(1)/bin/python --no-deps --no-build-isolation --editable . && \
	    echo "$(2)-$$want" > $(1)/.installed; \
	fi
endef

.PHONY: dev-env demo-env envs
dev-env: $(UV)
	$(call install_env,$(VENV),dev)

# A checkout that has the development environment has all that the demo needs; a newcomer's installs the demo's alone.
demo-env: $(UV)
	@if ! grep -q '^dev-' $(VENV)/.installed 2>/dev/null; then $(MAKE) --no-print-directory demo-env-install; fi
.PHONY: demo-env-install
demo-env-install:
	$(call install_env,$(VENV),demo)

envs: $(UV) $(ENVS:%=.envs/%/.made) .envs/image/.made #: the environments of the attach tests (floor, EDOT, ADOT, logfire, plain, declarative, clients)
# What the image holds beside our own package: tests lay it out as collector/Dockerfile does.
.envs/image/.made: requirements/gateway.txt | $(UV)
	@echo "Installing gateway into .envs/image …"
	@$(UV) venv --quiet --clear --python $(BIN)/python .envs/image
	@$(UV) pip install --quiet --python .envs/image/bin/python --require-hashes -r requirements/gateway.txt
	@touch $@
.envs/%/.made: requirements/env-%.txt pyproject.toml otel_posthog/version.py | $(UV)
	@$(UV) venv --quiet --clear --python $(if $(filter floor,$*),$(FLOOR_PYTHON),$(BIN)/python) .envs/$*
	$(call install_env,.envs/$*,env-$*)
	@touch $@

# --- what people run ---------------------------------------------------------------------------------------------

.PHONY: demo
demo: demo-env #: an unmodified shop, auto-instrumented, its events shown (ONCE=1: print and leave)
	@$(BIN)/python examples/shop/demo.py $(if $(ONCE),--once)

.PHONY: demo-collector
demo-collector: dev-env collector #: the same through a real Collector and the gateway (needs Go; ONCE=1 as above)
	@$(BIN)/python examples/collector/demo.py $(CACHE)/collector/otelcol-bridge $(if $(ONCE),--once)

.PHONY: test
test: dev-env envs #: all tests, the floor's too (TESTS=tests/unit for a part, on the newest alone)
	@$(BIN)/python -m pytest $(PYTEST_FLAGS) $(TESTS)
ifeq ($(TESTS),tests)
	@$(MAKE) --no-print-directory test-floor
endif

.PHONY: test-floor
test-floor: .envs/floor/.made #: unit, golden and parity tests on the oldest Python and OpenTelemetry, without extras
	@echo "On the floor: $$(.envs/floor/bin/python --version), OpenTelemetry 1.39"
	@.envs/floor/bin/python -m pytest $(PYTEST_FLAGS) --hypothesis-profile few -p no:cacheprovider $(FLOOR_TESTS)

.PHONY: clients
clients: #: fetch and build the OpenTelemetry clients of other languages that the tests use (JavaScript, Go, Java), and posthog-js
	@tests/clients/build.sh .cache/clients

.PHONY: soak
soak: dev-env #: the long tests (minutes to hours): hundreds of kills, load, an hour of faults
	@$(BIN)/python -m pytest -m soak --timeout 7200 $(TESTS)

.PHONY: lint
lint: dev-env #: ruff, pyright strict, the floors, docstrings of tests, dead links
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@$(BIN)/interrogate --quiet tests
	@$(BIN)/python tests/docs/links.py

.PHONY: format
format: dev-env #: mend what can be mended by a tool
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

.PHONY: bench
bench: dev-env #: the in-process budgets, as ratios against peers in one run
	@$(BIN)/python -m tests.bench $(BENCH_FLAGS)

# --- what tests and users need that takes long to build; the cache survives (OTEL_POSTHOG_CACHE names another) -------

CACHE := $(or $(OTEL_POSTHOG_CACHE),.cache)

.PHONY: collector collector-kafka kafka collector-kubernetes
collector: #: a real OpenTelemetry Collector, built from Go modules (needs Go 1.25; minutes the first time)
	@collector/build.sh collector/builder-config.yaml $(CACHE)/collector
collector-kafka: #: the same with Kafka and the load-balancing exporter
	@BUILDER_VERSION=v0.158.0 collector/build.sh collector/builder-config-kafka.yaml $(CACHE)/collector
kafka: #: a Kafka broker's jars for the tests (needs Maven and Java 17)
	@collector/kafka/fetch.sh $(CACHE)/kafka
collector-kubernetes: #: what the Kubernetes manifests are checked with (needs Go 1.25)
	@collector/kubernetes/build.sh $(CACHE)/kubernetes
.PHONY: promtool
promtool: #: Prometheus' checker for the alert rules, built from Go modules
	@tests/tools/build.sh promtool github.com/prometheus/prometheus/cmd/promtool promtool $(CACHE)/promtool
.PHONY: compose-check
compose-check: #: the loader of docker compose, for the tests, built from Go modules
	@tests/tools/build.sh compose . compose-check $(CACHE)/compose
.PHONY: dockerfile-check
dockerfile-check: #: BuildKit's parser and linter, for the tests, built from Go modules
	@tests/tools/build.sh dockerfile . dockerfile-check $(CACHE)/dockerfile

.PHONY: lock
lock: $(UV) #: write the hash-pinned requirements anew
	@requirements/compile.sh $(UV)

.PHONY: clean
clean: #: remove the environments and caches
	@rm -rf $(VENV) .envs .cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
