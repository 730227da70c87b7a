# make help lists what there is. Every target brings what it needs; `make run` and `make test` need Python 3.11 or
# newer and nothing else set up.

PORT ?= 8000
DATA_DIR ?= .local
ENV ?= dev
ARCHITECTURE ?= x86_64
BYTECODE_PYTHON ?= 3.13
export ARCHITECTURE BYTECODE_PYTHON

UV_VERSION := 0.13.9
CHECKOV_VERSION := 3.3.30
PIP_AUDIT_VERSION := 2.10.1
SCHEMATHESIS_VERSION := 4.32.5
LOCUST_VERSION := 2.47.0
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { command -v $$p; break; }; done)
UV := .tools/uv/bin/uv
# Packages that stand in for what a machine lacks: the local database runs on Java and is brought by npm.
LACKING := $(shell java -version >/dev/null 2>&1 || echo --group java) \
	$(shell command -v npm >/dev/null 2>&1 || echo --group node)
SAM := $(CURDIR)/.tools/sam/bin/sam
MINISTACK := $(CURDIR)/.tools/ministack/bin/python
PEER := $(CURDIR)/.tools/peer/bin/python
RUNTIME := $(CURDIR)/.tools/runtime/bin/python

# What an administrator's command is for: a deployed stack, or a local run's data folder.
TARGET = --stack '$(STACK)' --data '$(or $(DATA_DIR),.local)'

.PHONY: help run fetch-all api-key api-keys revoke-api-key rotate-secret test test-sam test-stack test-deployed fuzz load bench bench-check check format openapi lock build validate scan sam-local deploy-dev deploy-prod clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: .venv/ready ## start the API and its database on http://localhost:8000 (PORT=..., DATA_DIR=...)
	@.venv/bin/python -m infra.local --port '$(PORT)' --data '$(or $(DATA_DIR),.local)'

fetch-all: export API_KEY = $(KEY)
fetch-all: .venv/ready ## fetch the metrics of all accounts of the running service now (PORT=... or URL=..., KEY=...)
	@.venv/bin/python -m infra.local.fetch_all --url '$(or $(URL),http://localhost:$(PORT)/plugins/copilot_metrics)' \
		--seconds '$(or $(WAIT),900)'

api-key: .venv/ready ## make an API key (NAME=..., SCOPE=read or write; optional DAYS=..., STACK=...)
	@.venv/bin/python -m infra.admin.api_keys $(TARGET) make --name '$(NAME)' --scope '$(SCOPE)' --days='$(DAYS)'

api-keys: .venv/ready ## list the API keys (optional STACK=...)
	@.venv/bin/python -m infra.admin.api_keys $(TARGET) list

revoke-api-key: .venv/ready ## revoke an API key (ID=...; optional STACK=...)
	@.venv/bin/python -m infra.admin.api_keys $(TARGET) revoke --id '$(ID)'

rotate-secret: .venv/ready ## seal all tokens under a new secret (then FINISH=1; optional STACK=...)
	@.venv/bin/python -m infra.admin.rotate_secret $(TARGET) $(if $(FINISH),--finish)

test: .venv/ready ## run all tests
	@.venv/bin/pytest --numprocesses auto --dist worksteal

test-sam: .venv/ready build ## run the black-box tests against SAM CLI's containers (needs Docker)
	@TARGET=sam .venv/bin/pytest -rs tests/black_box

test-stack: .venv/ready $(SAM) $(MINISTACK) ## deploy to a stand-in for AWS, and run the black-box tests there
	@UV=$(CURDIR)/$(UV) LAYER_PYTHON="$$($(MINISTACK) -c 'import sys; print("%d.%d" % sys.version_info[:2])')" \
		$(SAM) build --no-cached --build-dir .aws-sam/stack >.aws-sam/stack.log 2>&1 || { cat .aws-sam/stack.log; exit 1; }
	@TARGET=stack .venv/bin/pytest -rs tests/black_box

fuzz: .venv/ready ## let schemathesis make requests from docs/openapi.json (EXAMPLES=100 for each operation)
	@EXAMPLES='$(EXAMPLES)' .venv/bin/python -m tests.fuzz $(CURDIR)/$(UV) tool run --quiet schemathesis@$(SCHEMATHESIS_VERSION)

load: .venv/ready ## how the local run bears 1, 8 and 32 clients
	@.venv/bin/python -m tests.benchmarks.load $(CURDIR)/$(UV) tool run --quiet locust@$(LOCUST_VERSION)

bench: .venv/ready $(PEER) $(RUNTIME) build ## measure speed, memory and cost; writes docs/benchmarks.md (ONLY=..., half an hour)
	@.venv/bin/python -m tests.benchmarks $(if $(ONLY),--only $(ONLY))

bench-check: .venv/ready $(RUNTIME) build ## see that the benchmark still runs, by its shortest parts
	@.venv/bin/python -m tests.benchmarks --only growth layer --growth 1000 --to .aws-sam/benchmarks.md

test-deployed: export KEY := $(KEY)
test-deployed: export READ_KEY := $(READ_KEY)
test-deployed: .venv/ready ## run the black-box tests against a deployed service (URL=..., KEY=...; optional READ_KEY=...)
	@TARGET=deployed URL='$(URL)' KEY="$$KEY" READ_KEY="$$READ_KEY" .venv/bin/pytest -rs tests/black_box

check: .venv/ready ## lint, types, import rules and locks
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache --no-logo >/dev/null || .venv/bin/lint-imports --no-cache
	@$(UV) lock --check --quiet
	@$(UV) export --locked --quiet --no-dev --no-emit-project --no-header | diff - shared/requirements.txt \
		|| { echo 'make: shared/requirements.txt is older than uv.lock: run make shared/requirements.txt' >&2; exit 1; }

format: .venv/ready ## fix what can be fixed
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

openapi: .venv/ready ## write the API's description to docs/openapi.json
	@.venv/bin/python -m infra.openapi

lock: $(UV) ## take newer packages into the locks
	@$(UV) lock --upgrade && $(UV) lock --upgrade --project infra/sam
	@$(MAKE) --no-print-directory shared/requirements.txt

shared/requirements.txt: uv.lock | $(UV)
	@$(UV) export --locked --quiet --no-dev --no-emit-project --no-header --output-file $@ >/dev/null

# samconfig.toml gives the release to deployments.
build: $(SAM) ## build the functions and their layer for Lambda (ARCHITECTURE=x86_64 or arm64)
	@UV=$(CURDIR)/$(UV) $(SAM) build
	@echo "Release: build-$$(date -u +%Y%m%dT%H%M%SZ)" >.aws-sam/release.yaml

validate: $(SAM) ## check template.yaml with both of SAM CLI's validators
	@$(SAM) validate --region us-east-1
	@$(SAM) validate --lint --region us-east-1

scan: $(UV) ## look for weaknesses: checkov on template.yaml, pip-audit on the layer's packages (both need the internet)
	@$(UV) tool run --quiet checkov@$(CHECKOV_VERSION) --config-file infra/checkov.yaml
	@$(UV) tool run --quiet pip-audit@$(PIP_AUDIT_VERSION) --disable-pip --require-hashes -r shared/requirements.txt

sam-local: .venv/ready build ## serve the built functions in Docker containers, with the local database (PORT=..., DATA_DIR=...)
	@SAM="$(SAM)" .venv/bin/python -m infra.local.sam --port '$(PORT)' --data '$(or $(DATA_DIR),.local)'

deploy-dev deploy-prod: deploy-%: build ## deploy to AWS with the settings of samconfig.toml
	@$(SAM) deploy --config-env $*

clean: ## remove what was built and installed (the data folder stays)
	@rm -rf .venv .tools .aws-sam .mypy_cache .ruff_cache .pytest_cache

$(UV):
	@test -n '$(PYTHON)' || { echo 'make: Python 3.11 or newer is needed: install it, then run make again' >&2; exit 1; }
	@'$(PYTHON)' -m venv .tools/uv >/dev/null || { \
		echo 'make: Python needs its venv module: on Debian and Ubuntu, apt install python3-venv' >&2; exit 1; }
	@.tools/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) || { \
		echo 'make: uv could not be installed: is the package index reachable?' >&2; rm -rf .tools/uv; exit 1; }

$(SAM): infra/sam/pyproject.toml infra/sam/uv.lock $(UV)
	@echo 'Installing SAM CLI ...'
	@UV_PROJECT_ENVIRONMENT=$(CURDIR)/.tools/sam $(UV) sync --project infra/sam --locked --quiet --python '$(PYTHON)'
	@touch $@

$(MINISTACK): infra/ministack/pyproject.toml infra/ministack/uv.lock $(UV)
	@UV_PROJECT_ENVIRONMENT=$(CURDIR)/.tools/ministack $(UV) sync --project infra/ministack --locked --quiet --python '$(PYTHON)'
	@touch $@

$(PEER): tests/benchmarks/peer/pyproject.toml tests/benchmarks/peer/uv.lock $(UV)
	@UV_PROJECT_ENVIRONMENT=$(CURDIR)/.tools/peer $(UV) sync --project tests/benchmarks/peer --locked --quiet --python '$(PYTHON)'
	@touch $@

$(RUNTIME): tests/benchmarks/runtime/pyproject.toml tests/benchmarks/runtime/uv.lock $(UV)
	@PYENV_VERSION=$(BYTECODE_PYTHON) UV_PROJECT_ENVIRONMENT=$(CURDIR)/.tools/runtime \
		$(UV) sync --project tests/benchmarks/runtime --locked --quiet --compile-bytecode --python '$(BYTECODE_PYTHON)'
	@touch $@

.venv/ready: pyproject.toml uv.lock $(UV)
	@echo 'Installing the locked packages ...'
	@$(UV) sync --locked --quiet --python '$(PYTHON)' $(LACKING)
	@touch $@
