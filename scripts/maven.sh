# Sourced by kafka.sh and registry.sh, which run real servers out of Maven Central. Needs a function `die`.

# fetch_once CACHE FETCHER...: runs FETCHER with a temporary folder that becomes CACHE when it is complete, so that two first runs at once
# cannot mix.
fetch_once() {
  local cache=$1
  shift
  [[ -f $cache/complete ]] && return
  command -v mvn >/dev/null || die "mvn not found: install Maven once to fetch $cache (Debian: apt-get install maven)"
  mkdir -p "${cache%/*}"
  (
    tmp=$(mktemp -d "$cache.XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    "$@" "$tmp"
    touch "$tmp/complete"
    chmod 755 "$tmp"
    mv -T "$tmp" "$cache" 2>/dev/null || [[ -f $cache/complete ]] || die "cannot write $cache"
  )
}
