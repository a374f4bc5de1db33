.DEFAULT_GOAL := help
.PHONY: help dev test test-all test-example test-runtime test-dynamodb-local test-clients test-build fuzz lint deny bench build deploy

TOOLS := .venv/.installed
export SAM_CLI_TELEMETRY := 0

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-20s %s\n", $$1, $$2 }' Makefile

dev: ## the whole system on this machine; options in ARGS="--port 4000"
	cargo run -p local -- $(ARGS)

test: ## format, clippy, all tests, docs: needs Rust alone
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

test-all: test lint test-example test-runtime test-dynamodb-local test-clients test-build ## all of them

test-example: ## the function in examples/, against the local system
	cd examples/protected && cargo fmt --check
	cargo clippy --manifest-path examples/protected/Cargo.toml --target-dir target --all-targets -- -D warnings
	cargo test --manifest-path examples/protected/Cargo.toml --target-dir target

test-runtime: $(TOOLS) ## every event of events/ through the Lambda Runtime API
	PATH="$(CURDIR)/.venv/bin:$$PATH" tools/test-runtime

test-dynamodb-local: ## the store and the flows, against AWS's own engine: needs Java
	tools/dynamodb-local/run cargo test -p local --test system

test-clients: ## clients as strangers write them, and the docs' own: needs Node and Python
	tools/test-clients

test-build: build ## what is deployed: for arm64, and 4 MB at most
	.venv/bin/python tools/check_build.py

lint: $(TOOLS) ## the templates
	AWS_DEFAULT_REGION=us-east-1 .venv/bin/sam validate
	AWS_DEFAULT_REGION=us-east-1 .venv/bin/sam validate --lint
	AWS_DEFAULT_REGION=us-east-1 .venv/bin/sam validate --lint --template examples/authorizer/template.yaml
	.venv/bin/cfn-lint template.yaml examples/protected/template.yaml examples/authorizer/template.yaml

deny: .venv/bin/cargo-deny ## advisories, licences and sources of what we depend on
	.venv/bin/cargo-deny check

fuzz: .venv/bin/cargo-fuzz ## each fuzz target for 30 seconds; needs a nightly compiler
	PATH="$(CURDIR)/.venv/bin:$$PATH" fuzz/run

bench: $(TOOLS) ## how fast it is, beside the C reference of argon2
	PYTHON=$(CURDIR)/.venv/bin/python cargo bench -p bench

build: $(TOOLS) ## every function, for arm64
	rustup target add aarch64-unknown-linux-gnu
	PATH="$(CURDIR)/.venv/bin:$$PATH" sam build

deploy: build ## to the AWS account and region of your environment
	.venv/bin/sam deploy

$(TOOLS): requirements-dev.txt
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	touch $@

.venv/bin/cargo-fuzz:
	cargo install --locked --root .venv --version 0.13.2 cargo-fuzz

.venv/bin/cargo-deny:
	cargo install --locked --root .venv --version 0.20.2 cargo-deny
