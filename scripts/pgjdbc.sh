#!/usr/bin/env bash
# PostgreSQL's JDBC driver for tests, from Maven Central, which stays in a cache. Needs Maven for the first run.
#
#   scripts/pgjdbc.sh install       fetch it; prints its jar
# Environment: PGJDBC_VERSION, PGJDBC_CACHE.
set -euo pipefail

version=${PGJDBC_VERSION:-42.7.8}
cache=${PGJDBC_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/outlay-pgjdbc/$version}

die() { echo "pgjdbc.sh: $*" >&2; exit 1; }

# shellcheck source=scripts/maven.sh
source "$(dirname "${BASH_SOURCE[0]}")/maven.sh"

# fetch_driver FOLDER
fetch_driver() {
  echo "pgjdbc.sh: fetching PostgreSQL's JDBC driver $version into $cache (first run only)" >&2
  mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy "-DoutputDirectory=$1" \
    "-Dartifact=org.postgresql:postgresql:$version" >&2 \
    || die "Maven could not fetch PostgreSQL's JDBC driver $version; is Maven Central reachable?"
}

case ${1:-} in
  install) fetch_once "$cache" fetch_driver; echo "$cache/postgresql-$version.jar" ;;
  *) die "usage: pgjdbc.sh install" ;;
esac
