# What is done often. `just` lists it.

_default:
    @just --list

# Serve on the embedded engine.
run *arguments:
    cargo run --release -- {{arguments}}

# All tests.
test:
    cargo test --workspace

# What the gate checks before the tests.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    npx --yes @bufbuild/buf lint

# Write anew what is checked in and follows from the code: docs/operations.md, docs/configuration.md,
# clients/service-config.json, deploy/iam.
docs:
    UPDATE_DOCS=1 cargo test --test contract

# What calls cost next to a bare tonic handler: kept answers, misses, creations, forwarding, tracing.
bench:
    cargo bench --bench cache

# Ten thousand waits over a hundred environments: polls, memory, lag.
bench-waits:
    cargo bench --bench waits

# Ten minutes of mixed load: is memory flat, and do files, sockets and streams come back?
soak minutes="10":
    cargo bench --bench soak -- --minutes {{minutes}}

# Start-up time and idle memory of the release binary.
footprint:
    cargo build --release
    bash benches/footprint.sh target/release/proton-gateway

# The real clients, and the examples of clients, against the release binary.
clients:
    cargo build --release
    bash tests/clients/run.sh target/release/proton-gateway
    bash clients/run.sh target/release/proton-gateway

# Image, charts, overlays, rules, dashboard: all of deploy/, without a cluster.
deploy:
    cargo build
    bash tests/deploy/run.sh target/debug/proton-gateway

# How large the image is.
image-size:
    bash deploy/image/measure.sh

# The whole gate, as it runs on a clean clone.
ci:
    bash .ci/run
