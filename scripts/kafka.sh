#!/usr/bin/env bash
# A real single-node Apache Kafka (KRaft) on loopback for tests and benchmarks, without Docker: its jars come from Maven
# Central once and stay in a cache. Needs Linux, Java 17 or newer, and Maven for the first run.
#
#   scripts/kafka.sh install                       fetch the jars only; prints where they are
#   scripts/kafka.sh start [OPTIONS]               start a broker and wait until it answers; prints HOST:PORT
#   scripts/kafka.sh stop  [--port N | --dir D]    stop it and wait until it is gone
#   scripts/kafka.sh topic [--port N] NAME PARTITIONS [key=value]...
#   scripts/kafka.sh run   CLASS ARGS...           any tool of Kafka, e.g.
#                          run org.apache.kafka.tools.TopicCommand --bootstrap-server 127.0.0.1:19092 --list
# Options of start:
#   --port N        clients connect here, the controller listens on N+1 (default 19092; 0 picks a free pair)
#   --dir D         everything of this broker: data, logs, settings, pid (default ~/.local/state/outlay-kafka/PORT)
#   --heap SIZE     heap of the broker's JVM (default 512m)
#   --set key=value a broker setting; may be repeated, the last one of a key wins
#   --owner PID     stop the broker and delete its dir when process PID is gone, however it ended
# Environment: KAFKA_VERSION, KAFKA_CACHE (jars), JAVA_HOME, KAFKA_START_TIMEOUT (seconds), KAFKA_RUN_HEAP.
set -euo pipefail

version=${KAFKA_VERSION:-4.3.1}
cache=${KAFKA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/outlay-kafka/$version}
state=${XDG_STATE_HOME:-$HOME/.local/state}/outlay-kafka
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

die() { echo "kafka.sh: $*" >&2; exit 1; }
say() { echo "kafka.sh: $*" >&2; }
# shellcheck source=scripts/maven.sh
source "$here/maven.sh"

need_java() {
  command -v "$java" >/dev/null || die "java not found: install a JRE of version 17 or newer (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME"
  local major
  major=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p;s/^openjdk \([0-9]*\).*/\1/p' | head -n 1)
  [[ -z $major || $major -ge 17 ]] || die "java $major is too old for Kafka $version: install version 17 or newer"
}

install_jars() { fetch_once "$cache" fetch_jars; }

# fetch_jars FOLDER
fetch_jars() {
  say "fetching Kafka $version into $cache (first run only)"
  cp "$here/kafka/pom.xml" "$here"/kafka/log4j2-*.properties "$1/"
  mvn -B -q -f "$1/pom.xml" "-Dkafka.version=$version" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DincludeScope=runtime "-DoutputDirectory=$1/libs" >&2 || die "Maven could not fetch Kafka $version; is Maven Central reachable?"
}

# java_run LEVEL HEAP [JVM OPTIONS] CLASS ARGS... replaces this shell.
java_run() {
  local level=$1 heap=$2
  shift 2
  exec ${detach:-} "$java" "-Xmx$heap" -Djava.awt.headless=true -cp "$cache/libs/*" \
    "-Dlog4j2.configurationFile=file:$cache/log4j2-$level.properties" "$@"
}

# Whether the pid file names a live process that runs with this dir's settings (a pid may have been given to another).
alive() {
  pid=$(cat "$dir/broker.pid" 2>/dev/null) && [[ -n $pid ]] &&
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -- "$dir/server.properties"
}

# The broker says that it is up, and replies to an ApiVersions request (a listening socket alone is not yet a broker).
answers() {
  grep -qF 'Kafka Server started' "$dir/broker.log" && (
    exec 3<>"/dev/tcp/127.0.0.1/$port" && printf '\0\0\0\012\0\022\0\0\0\0\0\1\377\377' >&3
    [[ $(timeout 5 head -c 8 <&3 | od -An -tx1 | tr -d ' ') == *00000001 ]]
  ) 2>/dev/null
}

in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Below the range that Linux hands to outgoing connections, so that only another server can take the pair meanwhile.
free_port() {
  local candidate
  for _ in {1..50}; do
    candidate=$((10000 + (RANDOM * 32768 + RANDOM) % 11000 * 2))
    in_use "$candidate" || in_use $((candidate + 1)) || { echo "$candidate"; return; }
  done
  die "no free pair of ports found"
}

write_settings() {
  local on="BROKER://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))"
  printf '%s\n' process.roles=broker,controller node.id=1 "log.dirs=$dir/data" \
    "listeners=$on" "advertised.listeners=$on" \
    listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT inter.broker.listener.name=BROKER \
    controller.listener.names=CONTROLLER "controller.quorum.voters=1@127.0.0.1:$((port + 1))" \
    auto.create.topics.enable=false default.replication.factor=1 min.insync.replicas=1 \
    offsets.topic.replication.factor=1 offsets.topic.num.partitions=4 \
    transaction.state.log.replication.factor=1 transaction.state.log.min.isr=1 transaction.state.log.num.partitions=4 \
    share.coordinator.state.topic.replication.factor=1 share.coordinator.state.topic.min.isr=1 \
    share.coordinator.state.topic.num.partitions=4 \
    group.initial.rebalance.delay.ms=0 log.retention.ms=-1 "${set[@]}" >"$dir/server.properties"
}

start_once() {
  local end=$((SECONDS + ${KAFKA_START_TIMEOUT:-300})) child id
  write_settings
  if [[ ! -f $dir/data/meta.properties ]]; then
    id=$(head -c 16 /dev/urandom | base64 | tr -d = | tr '+/' 'AB')
    (java_run WARN 256m -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format -t "$id" -c "$dir/server.properties") \
      >"$dir/format.log" 2>&1 9>&- || { cat "$dir/format.log" >&2; die "could not format $dir/data"; }
  fi
  # A session of its own: a Ctrl-C meant for a test run must not take the broker away in the middle of it.
  detach=setsid java_run INFO "$heap" -XX:+UseG1GC kafka.Kafka "$dir/server.properties" \
    </dev/null >"$dir/broker.log" 2>&1 9>&- &
  child=$!
  echo "$child" >"$dir/broker.pid"
  until answers; do
    if ! kill -0 "$child" 2>/dev/null; then
      rm -f "$dir/broker.pid"
      grep -qiE 'address already in use|bind' "$dir/broker.log" && return 1
      grep -E ' (ERROR|FATAL) |Exception' "$dir/broker.log" | tail -n 5 >&2 || true
      die "the broker ended; its log is $dir/broker.log"
    fi
    ((SECONDS < end)) || { stop; die "no answer within ${KAFKA_START_TIMEOUT:-300} s; the broker's log is $dir/broker.log"; }
    sleep 0.1
  done
}

# Detached, so that it outlives this script; holds neither the lock nor the caller's output.
watch_owner() {
  setsid "${BASH}" -c 'tail --pid="$1" -f /dev/null; "$2" stop --dir "$3"; rm -rf -- "$3"' \
    watch "$owner" "$here/kafka.sh" "$dir" </dev/null >/dev/null 2>&1 9>&- &
}

start() {
  need_java
  install_jars
  local picked=''
  if [[ $port == 0 ]]; then picked=yes; port=$(free_port); fi
  dir=${dir:-$state/$port}
  mkdir -p "$dir"
  exec 9>"$dir/lock"
  flock 9
  if alive; then
    port=$(cat "$dir/port")
    say "already running: pid $pid in $dir"
  else
    until start_once; do
      [[ -n $picked ]] || die "port $port or $((port + 1)) is taken; choose another with --port"
      port=$(free_port)
    done
    echo "$port" >"$dir/port"
    say "started Kafka $version: pid $(cat "$dir/broker.pid") in $dir"
    [[ -z $owner ]] || watch_owner
  fi
  echo "127.0.0.1:$port"
}

stop() {
  dir=${dir:-$state/$port}
  alive || { rm -f "$dir/broker.pid"; return 0; }
  kill "$pid"
  for _ in {1..300}; do alive || break; sleep 0.1; done
  if alive; then kill -9 "$pid"; fi
  rm -f "$dir/broker.pid"
  say "stopped pid $pid"
}

topic() {
  [[ $# -ge 2 ]] || die "usage: topic [--port N] NAME PARTITIONS [key=value]..."
  local args=(--topic "$1" --partitions "$2") setting
  for setting in "${@:3}"; do args+=(--config "$setting"); done
  tool org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$port" --create --if-not-exists \
    --replication-factor 1 "${args[@]}"
}

tool() {
  [[ $# -ge 1 ]] || die "usage: run CLASS ARGS..."
  need_java
  install_jars
  java_run WARN "${KAFKA_RUN_HEAP:-512m}" -XX:TieredStopAtLevel=1 "$@"
}

command=${1:-help} port=19092 dir='' heap=512m owner='' set=()
shift || true
while [[ $command != run && ${1:-} == --* ]]; do
  [[ $# -ge 2 ]] || die "$1 needs a value"
  case $1 in
    --port) port=$2 ;;
    --dir) dir=$(realpath -m "$2") ;;
    --heap) heap=$2 ;;
    --set) set+=("$2") ;;
    --owner) owner=$2 ;;
    *) die "unknown option $1; see $0 help" ;;
  esac
  shift 2
done
[[ $port =~ ^[0-9]+$ && $port -le 65534 ]] || die "--port needs a number up to 65534, not $port"
[[ -z $owner || $owner =~ ^[0-9]+$ ]] || die "--owner needs a process id, not $owner"

case $command in
  install) need_java; install_jars; echo "$cache" ;;
  start) start ;;
  stop) stop ;;
  topic) topic "$@" ;;
  run) tool "$@" ;;
  help | -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//p}' "$0" ;;
  *) die "unknown command $command; see $0 help" ;;
esac
