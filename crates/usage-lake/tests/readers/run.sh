#!/bin/sh
# Opens a lake of ours with Python's `deltalake` and with DuckDB, and compares their sums with what was written.
# Needs the packages of tests/requirements.txt in OUTLAY_TEST_PYTHON, and the example program that `cargo test` builds: `./dev test` has both.
set -eu
cd "$(dirname "$0")/../../../.."
python="${OUTLAY_TEST_PYTHON:-.venv/bin/python}"
lake="$(mktemp -d)"
trap 'rm -rf "$lake"' EXIT
expected="$("${CARGO_TARGET_DIR:-target}/debug/examples/sample_lake" "$lake")"
"$python" crates/usage-lake/tests/readers/readers.py "$lake" "$expected"
