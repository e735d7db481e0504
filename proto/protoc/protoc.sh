#!/bin/sh
# Builds our protoc in a target folder of its own (cargo holds the lock of the usual one while a build
# script runs) and hands it the command line.
here=$(cd "$(dirname "$0")" && pwd)
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER CARGO_TARGET_DIR
exec "${CARGO:-cargo}" run --quiet --manifest-path "$here/Cargo.toml" \
    --target-dir "${OUT_DIR:-$here/../../target}/protoc" -- "$@"
