# One command for each thing a newcomer, a developer or CI does. `make help` lists them.
SHELL := /bin/bash
CARGO ?= cargo
STACK := tests/stack/stack.sh

.PHONY: help check-tools build run up down test bench faults fuzz lint coverage clients console deploy-check openapi-baseline

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

check-tools:
	@missing=""; \
	for tool in cargo cc make pkg-config; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if command -v pkg-config >/dev/null && ! pkg-config --exists openssl; then missing="$$missing libssl-dev"; fi; \
	if ! echo '#include <zlib.h>' | cc -E - >/dev/null 2>&1; then missing="$$missing zlib1g-dev"; fi; \
	if [ -n "$$missing" ]; then \
	  echo "missing:$$missing" >&2; \
	  echo "On Debian: apt-get install build-essential pkg-config libssl-dev zlib1g-dev; Rust 1.91 or newer by rustup." >&2; \
	  exit 1; fi

build: check-tools ## Build everything for tests, which is quick to compile
	$(CARGO) build --profile quick --workspace --bins --tests

run: check-tools ## Run Almanac with a demonstration feed on http://127.0.0.1:8080
	$(CARGO) build --release --workspace --bin almanac
	"$${CARGO_TARGET_DIR:-target}"/release/almanac up

up: ## Start real Kafka, Cassandra and a schema registry on loopback, empty
	$(STACK) up

down: ## Stop them
	$(STACK) down

console: ## Build the page at / again, into console/dist (needs Node 20.19 or newer)
	cd console && npm ci && npm run build

clients: ## Install the clients of others that tests use, a browser's driver among them
	@tests/clients/setup.sh

openapi-baseline: ## At a release: the OpenAPI document becomes the one that later ones may not break
	$(CARGO) build --release --workspace --bin almanac
	@tests/clients/contracts/baseline.sh

test: build clients ## Every test, on real servers; what fails is run once more, alone
	@set -euo pipefail; $(STACK) up >/dev/null; set -a; . <($(STACK) env); set +a; \
	trap '$(STACK) down' EXIT; \
	RUST_BACKTRACE=0 CARGO=$(CARGO) tests/run.py --profile quick

# However slow the machine: what takes longer stands still.
FAULTS_LIMIT ?= 3h

faults: build ## Hundreds of faults of all kinds on both engines, under the oracles; bounded by FAULTS_LIMIT (3h)
	@set -euo pipefail; $(STACK) up >/dev/null; set -a; . <($(STACK) env); set +a; \
	trap '$(STACK) down' EXIT; \
	ALMANAC_FAULTS=full ALMANAC_KILLS=$${ALMANAC_KILLS:-200} \
	  timeout --kill-after=1m $(FAULTS_LIMIT) $(CARGO) test --profile quick --workspace \
	  --test campaign --test faults --test write_faults -- --nocapture --test-threads=1

# Of each target. FUZZ_TARGETS selects from fuzzing/targets; without it, all are run one after the other.
FUZZ_SECONDS ?= 600

fuzz: check-tools ## Fuzz parsers guided by coverage, FUZZ_SECONDS (600) each, and store what reaches more
	@CARGO=$(CARGO) fuzzing/run.sh $(FUZZ_SECONDS) $(FUZZ_TARGETS)

bench: check-tools ## Measure, beside baselines in the same run; writes docs/performance.md
	$(CARGO) build --release --workspace --bins
	@tests/bench/run.sh

deploy-check: ## Hold deploy/, the compose file and workflows against schemas and the programs that read them
	@deploy/check.sh

lint: ## Formatting, lints, schemas
	$(CARGO) fmt --all --check
	$(CARGO) clippy --profile quick --workspace --all-targets -- -D warnings
	$(CARGO) run --profile quick --quiet --bin almanac -- schemas check

coverage: ## Line coverage of the domain by its own tests, with a floor (needs rustup component add llvm-tools)
	@tests/coverage.sh
