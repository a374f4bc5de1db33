.DEFAULT_GOAL := help
.PHONY: help dev test test-all test-runtime lint deny bench build deploy

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

test-all: test lint test-runtime ## all of them

test-runtime: $(TOOLS) ## every event of events/ through the Lambda Runtime API
	PATH="$(CURDIR)/.venv/bin:$$PATH" tools/test-runtime

lint: $(TOOLS) ## the template
	AWS_DEFAULT_REGION=us-east-1 .venv/bin/sam validate
	AWS_DEFAULT_REGION=us-east-1 .venv/bin/sam validate --lint
	.venv/bin/cfn-lint template.yaml

deny: .venv/bin/cargo-deny ## advisories, licences and sources of what we depend on
	.venv/bin/cargo-deny check

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

.venv/bin/cargo-deny:
	cargo install --locked --root .venv --version 0.20.2 cargo-deny
