#!/usr/bin/env bash
# A real schema registry for tests: Apicurio Registry from Maven Central, which stays in a cache. It speaks the API of Confluent's at
# /apis/ccompat/v7 and keeps everything in memory. Needs Java 17 or newer, and Maven for the first run.
#
#   scripts/registry.sh install       fetch it only; prints its jar
#   scripts/registry.sh run PORT      run it on loopback in the foreground
# Environment: REGISTRY_VERSION, REGISTRY_CACHE, JAVA_HOME.
set -euo pipefail

version=${REGISTRY_VERSION:-2.6.13.Final}
cache=${REGISTRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/outlay-registry/$version}
jar=$cache/apicurio-registry-app-$version-runner.jar
java=${JAVA_HOME:+$JAVA_HOME/bin/}java

die() { echo "registry.sh: $*" >&2; exit 1; }

# shellcheck source=scripts/maven.sh
source "$(dirname "${BASH_SOURCE[0]}")/maven.sh"

install() { fetch_once "$cache" fetch_registry; }

# fetch_registry FOLDER
fetch_registry() {
  echo "registry.sh: fetching Apicurio Registry $version into $cache (first run only)" >&2
  mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy "-DoutputDirectory=$1/fetched" \
    "-Dartifact=io.apicurio:apicurio-registry-app:$version:tar.gz:all" >&2 \
    || die "Maven could not fetch Apicurio Registry $version; is Maven Central reachable?"
  tar -xzf "$1/fetched/"*.tar.gz -C "$1"
  rm -r "$1/fetched"
}

case ${1:-} in
  install) install; echo "$jar" ;;
  run)
    [[ ${2:-} =~ ^[0-9]+$ ]] || die "run needs a port"
    command -v "$java" >/dev/null || die "java not found: install a JRE of version 17 or newer (Debian: apt-get install default-jre-headless)"
    install
    exec "$java" -Xmx384m "-Dquarkus.http.host=127.0.0.1" "-Dquarkus.http.port=$2" -jar "$jar" ;;
  *) die "usage: registry.sh install | run PORT" ;;
esac
