#!/usr/bin/env bash
# Writes the generated files again. That they are current is checked by the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run -q -p usage-intake --example schemas -- schemas
cargo run -q -p http-api --example openapi > schemas/openapi.json.new
mv schemas/openapi.json.new schemas/openapi.json
