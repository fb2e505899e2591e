# What can be done here? `make help` tells.
SHELL := bash
CLUSTER := tests/cluster/cluster

.PHONY: help demo test triggers unit lint bench down kubeconfig kubectl generate

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## The whole of it on a real cluster (warm about 3 min); the cluster stays up
	@tests/demo.sh

test: ## Every test; brings up what it needs (on 2 cores warm about 11 min, else 26 min once crates and Kubernetes are built)
	@tests/run.sh

triggers: ## A rule of a real Prometheus fires, a session says why; after `make demo` (8 min)
	@tests/triggers.sh

unit: ## The tests that need no cluster (warm: seconds)
	@cargo test --workspace --exclude fleetprof-tests
	@python3 -B -m unittest discover --quiet --buffer --start-directory tests/cluster

lint: ## Formatting, clippy, licences, the chart
	@tests/lint.sh

bench: ## The figures of docs/figures.md, measured in one run on the cluster of `make demo`
	@tests/bench/run.sh

down: ## Removes the cluster and everything in it; caches stay
	@$(CLUSTER) down; $(CLUSTER) down --api-only

kubeconfig: ## Prints the path of the cluster's kubeconfig
	@$(CLUSTER) kubeconfig

kubectl: ## Prints the path of a kubectl
	@$(CLUSTER) kubectl-path

generate: ## Writes the CRD files anew from the types
	@FLEETPROF_REGENERATE=1 cargo test -q -p fleetprof-crds --test generated
