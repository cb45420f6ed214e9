# KUBECONFIG set: demo and end-to-end tests use that cluster, and IMAGES names a registry that it can pull from (see e2e/lib.sh).
# Not set: they use a real Kubernetes that is built and started on this machine (Linux, root).
.DEFAULT_GOAL := help
.PHONY: help demo test test-unit test-interop test-long test-e2e bench scale lint generate images down

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

demo: ## watch an agent's eleventh call being refused in a real pod (a quarter of an hour the first time, then seconds)
	@e2e/demo

test: ## every test: units, laws, golden files, charts, servers and clients of others, end to end
	@.ci/test unit interop fuzz e2e

test-long: ## the laws on a million generated calls each, five minutes of each fuzz target; on a cluster ten minutes without an operator, and 10,000 pending approvals
	@.ci/test long

bench: ## what the sidecar costs beside other proxies (minutes; BENCH=--full: an hour), and what a decision costs, alone
	@bench/install
	@cargo build --quiet --release --package mcp-policy-sidecar --package mcp-policy-bench
	@$${CARGO_TARGET_DIR:-target}/release/mcp-policy-bench $(BENCH) --installed $${CARGO_TARGET_DIR:-target}/bench --sidecar $${CARGO_TARGET_DIR:-target}/release/mcp-policy-sidecar
	@cargo bench --quiet --package mcp-policy

scale: ## the operator under 500 to 5,000 governed pods and 50 to 500 policies, on the embedded cluster
	@e2e/scale/run

test-unit: ## only what needs neither a cluster nor the software of others
	@.ci/test unit

test-interop: ## only the sidecar between servers, clients and suites that others wrote
	@.ci/test interop

test-e2e: ## only what needs one
	@.ci/test e2e

lint: ## formatting, clippy, shell scripts, licences
	@.ci/lint

generate: ## write the custom resource definitions anew from the Rust types
	@cargo run --quiet --package mcp-policy-operator --bin crdgen

images: ## the images as OCI archives, without a container engine
	@e2e/images/images build

down: ## stop the embedded cluster and remove every trace of it but the cache
	@e2e/cluster/cluster down
