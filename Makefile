# One command for each thing a newcomer, a developer or CI does. `make help` lists them.
SHELL := /bin/bash
CARGO ?= cargo
STACK := tests/stack/stack.sh

.PHONY: help check-tools build run up down test bench faults lint coverage clients

help: ## List the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

check-tools:
	@missing=""; \
	for tool in cargo cc make pkg-config; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if command -v pkg-config >/dev/null && ! pkg-config --exists openssl; then missing="$$missing libssl-dev"; fi; \
	if ! echo '#include <zlib.h>' | cc -E - >/dev/null 2>&1; then missing="$$missing zlib1g-dev"; fi; \
	if [ -n "$$missing" ]; then \
	  echo "missing:$$missing" >&2; \
	  echo "On Debian: apt-get install build-essential pkg-config libssl-dev zlib1g-dev; Rust 1.91 or newer by rustup." >&2; \
	  exit 1; fi

build: check-tools ## Build everything once, tests included
	$(CARGO) build --release --workspace --bins --tests

run: check-tools ## Run Almanac with a demonstration feed on http://127.0.0.1:8080
	$(CARGO) build --release --workspace --bins
	./target/release/almanac up

up: ## Start real Kafka, Cassandra and a schema registry on loopback, empty
	$(STACK) up

down: ## Stop them
	$(STACK) down

clients: ## A Python environment with the clients of others that tests use
	@tests/clients/setup.sh

test: build clients ## Every test, on real servers
	@set -euo pipefail; $(STACK) up >/dev/null; set -a; . <($(STACK) env); set +a; \
	trap '$(STACK) down' EXIT; \
	RUST_BACKTRACE=0 $(CARGO) test --release --workspace --no-fail-fast

faults: build ## Two hundred kills per engine, of feeds and of writes, under the oracles
	@set -euo pipefail; $(STACK) up >/dev/null; set -a; . <($(STACK) env); set +a; \
	trap '$(STACK) down' EXIT; \
	ALMANAC_KILLS=$${ALMANAC_KILLS:-200} $(CARGO) test --release --workspace --test faults --test write_faults -- --nocapture --test-threads=1

bench: build ## Measure, beside baselines in the same run; writes docs/performance.md
	@tests/bench/run.sh

lint: ## Formatting, lints, schemas
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings
	$(CARGO) run --release --quiet --bin almanac -- schemas check

coverage: ## Line coverage of the tests that need no servers (needs cargo-llvm-cov)
	@command -v cargo-llvm-cov >/dev/null || { echo "missing: cargo install cargo-llvm-cov" >&2; exit 1; }
	$(CARGO) llvm-cov --workspace --exclude almanac-tests --html
