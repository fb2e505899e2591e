# Run `make help` for a list of targets.
SHELL := bash
CLUSTER := tests/cluster/cluster

.PHONY: help demo test triggers unit lint bench down kubeconfig kubectl generate api cluster fuzz matrix soak doc screenshots release

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## Run the demo on a real cluster (warm: about 3 min); the cluster stays up
	@tests/demo.sh

test: ## Run all tests and start what they need (about an hour in a fresh checkout on 2 cores)
	@tests/run.sh

triggers: ## Fire a real Prometheus alert and show the resulting session; after `make demo` (9 min)
	@tests/triggers.sh

unit: ## Run the tests that need no cluster (warm: seconds)
	@tests/suites.sh unit

lint: ## Check formatting, clippy, licences and the chart
	@tests/lint.sh

bench: ## Measure the figures in docs/figures.md on the cluster of `make demo`
	@tests/bench/run.sh

down: ## Remove the cluster and everything in it; caches stay
	@$(CLUSTER) down; $(CLUSTER) down --api-only
	@FLEETPROF_CLUSTER_DIR=$$(dirname "$$($(CLUSTER) kubeconfig)")-second $(CLUSTER) down --api-only

kubeconfig: ## Print the path of the cluster's kubeconfig
	@$(CLUSTER) kubeconfig

kubectl: ## Print the path of a kubectl binary
	@$(CLUSTER) kubectl-path

generate: ## Generate the CRD files, the guides' tables and the pprof types
	@FLEETPROF_REGENERATE=1 cargo test -q --workspace --test generated
	@FLEETPROF_REGENERATE=1 cargo test -q --workspace --lib -- views runtimes::

api: ## Run the tests that start an API server of their own
	@tests/suites.sh api

cluster: ## Run the demo, then the tests that break and control things on its cluster; needs root
	@tests/demo.sh
	@tests/suites.sh cluster

# The flags that cargo fuzz would set, but for the sanitizer, so that the pinned compiler is enough.
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
FUZZ_SECONDS ?= 60

fuzz: ## Fuzz the profile readers, FUZZ_SECONDS (60) each
	@cd operator/profile/fuzz && for target in decode collect v8 jfr nettrace portable_pdb otlp; do \
		RUSTFLAGS="$(FUZZ_FLAGS)" cargo run --quiet --locked --release --target x86_64-unknown-linux-gnu \
			--target-dir ../../../target/fuzz --bin $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

matrix: ## Capture every runtime in pods by every way, after the demo, and all versions of Python and Node.js
	@tests/demo.sh
	@tests/suites.sh matrix
	@tests/console.sh speedscope

soak: ## Simulate a week of a fleet and thousands of rollouts, and kill workers hundreds of times (25 min)
	@tests/suites.sh soak

doc: ## Build the documentation of all crates; a warning is an error
	@RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

screenshots: ## Make the screenshots of the README again, with Chromium
	@tests/console.sh screenshots

release: ## Set VERSION everywhere, package chart and images into target/ (DRY_RUN=1: show it)
	@.ci/release.py "$(VERSION)"
