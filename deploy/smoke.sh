#!/usr/bin/env bash
# Does an installation work, end to end? Run it after a deployment:
#   ALMANAC_TOKEN=… deploy/smoke.sh https://almanac.example
# The token needs recipes:write and analyses:write; on a machine's own loopback address none is needed. It writes one recipe,
# which it deletes again, and one analysis with a forecast of its own, so that no service is asked.
# ALMANAC_CA_FILE names an authority that curl does not know. SMOKE_PATIENCE: seconds for each wait (60).
set -euo pipefail
url=${1:?"usage: $0 URL"}
url=${url%/}
patience=${SMOKE_PATIENCE:-60}
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
recipe=""
finish() {
  if [ -n "$recipe" ]; then ask DELETE "$recipe" >/dev/null || true; fi
  rm -rf "$work"
}
trap finish EXIT

fail() { echo "FAILED $*" >&2; [ ! -s "$work/body" ] || head -c 2000 "$work/body" >&2; exit 1; }
passed() { echo "ok     $*"; }

# METHOD PATH [curl arguments]: prints the status; body and headers stand in files.
ask() {
  local method=$1 path=$2
  shift 2
  local arguments=(--silent --show-error --max-time "$patience" --request "$method")
  [ "$method" != HEAD ] || arguments+=(--head)
  [ -z "${ALMANAC_TOKEN:-}" ] || arguments+=(--header "Authorization: Bearer $ALMANAC_TOKEN")
  [ -z "${ALMANAC_CA_FILE:-}" ] || arguments+=(--cacert "$ALMANAC_CA_FILE")
  curl "${arguments[@]}" --dump-header "$work/headers" --output "$work/body" --write-out '%{http_code}' "$@" "$url$path"
}
header() { tr -d '\r' <"$work/headers" | sed -n "s/^$1: //Ip" | tail -1; }
# STATUS WHAT METHOD PATH …
expect() {
  local wanted=$1 what=$2 status
  shift 2
  status=$(ask "$@") || fail "$what: no answer from $url"
  [ "$status" = "$wanted" ] || fail "$what: $status instead of $wanted"
  passed "$what"
}

expect 200 "it lives" GET /healthz
deadline=$((SECONDS + patience))
until [ "$(ask GET /readyz)" = 200 ]; do
  [ "$SECONDS" -lt "$deadline" ] || fail "it is not ready"
  sleep 1
done
passed "it is ready"
now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
expect 200 "search" GET "/search?starts_at=$now&ends_at=2100-01-01T00:00:00Z"
grep -q '"events"' "$work/body" || fail "search: no list of events"
expect 200 "a list of plans" GET '/v1/plans?limit=1'

name="smoke-$(date +%s)-$$"
expect 201 "a write" POST /v1/recipes --header 'Content-Type: application/json' --header "Idempotency-Key: $name" \
  --data "{\"name\": \"$name\", \"ingredients\": [{\"ingredient\": \"SALT\"}], \"steps\": [{\"text\": \"Wait.\"}]}"
recipe=$(header location)
token=$(header consistency-token)
[ -n "$recipe" ] && [ -n "$token" ] || fail "a write: neither Location nor Consistency-Token"
expect 200 "its read with the write's token" GET "$recipe" --header "Consistency-Token: $token" \
  --header "Prefer: handling=strict, wait=$patience"
grep -q "\"$name\"" "$work/body" || fail "the read does not show what was written"
expect 200 "its deletion" DELETE "$recipe"
recipe=""

printf '{"schedule": %s, "forecast": %s}' "$(cat "$here/docs/examples/schedule.json")" \
  "$(cat "$here/docs/examples/forecast.json")" >"$work/analysis.json"
expect 202 "a request for an analysis" POST /v1/analyses --header 'Content-Type: application/json' \
  --data "@$work/analysis.json"
analysis=$(header location)
deadline=$((SECONDS + patience))
while :; do
  [ "$(ask GET "$analysis" --header 'Prefer: wait=5')" = 200 ] || fail "the analysis cannot be read"
  ! grep -q '"state":"completed"' "$work/body" || break
  ! grep -q '"state":"failed"' "$work/body" || fail "the analysis failed"
  [ "$SECONDS" -lt "$deadline" ] || fail "the analysis has no end"
  sleep 0.2
done
grep -q '"earliest_start"' "$work/body" || fail "the analysis names no start"
passed "its windows"
