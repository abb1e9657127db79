#!/usr/bin/env bash
# Writes docs/openapi-baseline.json, from a server that is started for it, and forgets the breaks that were decided.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
data=$(mktemp -d)
address=127.0.0.1:${ALMANAC_BASELINE_PORT:-18480}
ALMANAC__DATA_DIR=$data ALMANAC__HTTP__LISTEN=$address "$root/target/release/almanac" up >"$data/up.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" || true; rm -rf "$data"' EXIT
for _ in $(seq 60); do
  curl --fail --silent --output /dev/null "http://$address/readyz" && break
  kill -0 "$server" 2>/dev/null || { cat "$data/up.log" >&2; exit 1; }
  sleep 1
done
"$here/check.sh" "http://$address" baseline
: >"$root/docs/openapi-breaks.txt"
