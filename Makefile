STACK ?= eks-prod
TARGET ?= stand-ins
PYTHON ?= python3.11
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: preview up plan rehearse test test-browser test-cluster cluster-up cluster-down bench lint format lock clean help

help: ## Show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(STAMP): requirements-dev.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11, or name one with PYTHON=python3.12"; exit 2; }
	@echo "setting up $(VENV) (about 1 minute the first time)"
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@# Of 7,000 modules a run imports 1,500: those are compiled when they are imported.
	@$(PY) -m pip install -q --disable-pip-version-check --require-hashes --no-deps --no-compile -r requirements-dev.txt
	@touch $@

preview: $(STAMP) ## Preview STACK with the real engine, no account; TARGET=local-control-plane for a real API server
	@$(PY) -m coldstart preview $(STACK) --target $(TARGET)

up: $(STAMP) ## Up of STACK: a stand-in cloud, a real control plane (TARGET=local-control-plane)
	@$(PY) -m coldstart up $(STACK) --target $(TARGET)

plan: $(STAMP) ## Print decisions, cold starts and cost of STACK
	@$(PY) -m coldstart plan $(STACK)

rehearse: $(STAMP) ## Preview, up, second up, refresh, destroy of STACK, no account
	@$(PY) -m coldstart rehearse $(STACK)

test: $(STAMP) ## Every test that needs no cluster
	@$(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/cluster --ignore tests/browser

test-browser: $(STAMP) ## Open a report in headless Chromium: phone, desk, paper, keyboard, screen reader
	@$(PY) -m pytest -q tests/browser

test-cluster: $(STAMP) ## Tests against a real control plane, Karpenter, KEDA and containerd
	@$(PY) -m tests.cluster.build
	@$(PY) -m pytest -q -n 5 --dist loadscope --no-loadscope-reorder tests/cluster

cluster-up: $(STAMP) ## Start etcd and a Kubernetes control plane on loopback addresses
	@$(PY) -m coldstart cluster up

cluster-down: $(STAMP) ## End exactly the processes that cluster-up started
	@$(PY) -m coldstart cluster down

bench: $(STAMP) ## Time the preview against a bare program, the policies, the planner and the simulator
	@$(PY) -m tests.bench
	@$(PY) -m tests.bench_planning
	@$(PY) -m tests.bench_simulation

lint: $(STAMP) ## Format, lint and types, without changing anything
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/pyright --pythonpath $(PY) --warnings

format: $(STAMP) ## Apply format and safe lint fixes
	@$(VENV)/bin/ruff format . && $(VENV)/bin/ruff check --fix .

lock: ## Renew the locked requirements (needs pip-tools)
	pip-compile -q --allow-unsafe --generate-hashes --no-emit-index-url --no-emit-trusted-host --strip-extras -o requirements.txt pyproject.toml
	pip-compile -q --allow-unsafe --generate-hashes --no-emit-index-url --no-emit-trusted-host --strip-extras --extra dev -o requirements-dev.txt pyproject.toml

clean: ## Remove what the targets made
	rm -rf $(VENV) .cache .pytest_cache .hypothesis .ruff_cache
