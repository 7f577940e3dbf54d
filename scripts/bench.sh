#!/usr/bin/env bash
# The figures of the README on this machine, each beside a floor or a peer in the same run, against a real Kafka on loopback.
#
#   scripts/bench.sh            500,000 events and 500 decisions: some minutes after the first build
#   scripts/bench.sh --full     2,000,000 events and 2,000 decisions
#
# Prints Markdown on standard output and progress on standard error. Needs Linux, Java and Maven (see kafka.sh). The machine
# should be idle: other work takes caches and cores away.
set -euo pipefail
cd "$(dirname "$0")/.."

events=500000 probes=500
case ${1:-} in
  '') ;;
  --full) events=2000000 probes=2000 ;;
  *) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac

target=${CARGO_TARGET_DIR:-target}
echo "== building" >&2
cargo build --release -p outlay --bins
cargo build --release -p outlay --example bench
cargo build --release -p budget-core --example memory

folder=$(mktemp -d "${TMPDIR:-/tmp}/outlay-bench.XXXXXX")
trap 'scripts/kafka.sh stop --dir "$folder/kafka"; rm -rf "$folder"' EXIT
echo "== starting Kafka" >&2
kafka=$(scripts/kafka.sh start --port 0 --dir "$folder/kafka" --heap 1g --owner $$)

cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
memory=$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)
load=$(cut -d' ' -f1 /proc/loadavg)
echo "$(nproc) cores (${cpu:-unknown}), $memory, Linux $(uname -r), $(rustc --version | cut -d' ' -f1-2), Apache Kafka ${KAFKA_VERSION:-4.3.1}," \
  "$("$target/release/outlay" --version); load average before: $load."
echo
"$target/release/examples/bench" --kafka "$kafka" --outlay "$target/release/outlay" --data "$folder/data" \
  --events "$events" --probes "$probes"
echo
echo "Memory of a million balances in the core, as the resident set grew:"
echo
for shape in worst usual; do
  "$target/release/examples/memory" 1000000 "$shape" | sed 's/^/- /'
done
