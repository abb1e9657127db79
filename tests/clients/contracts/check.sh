#!/usr/bin/env bash
# Holds the documents that a running Almanac publishes against programs that others wrote: validators, a comparison with
# the document of the release before (docs/openapi-baseline.json), and clients that generators make, which write and read.
# `check.sh URL`, with a token for recipes:write in ALMANAC_TOKEN; `check.sh URL baseline` renews the baseline instead.
# Parts are called by their names.
# shellcheck disable=SC2329
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
tools=${ALMANAC_STACK_DIR:-$root/.stack}
url=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for name in openapi asyncapi; do
  curl --fail --silent --show-error "$url/$name.json" --output "$work/$name.json"
done
baseline=$root/docs/openapi-baseline.json
if [ "${2:-}" = baseline ]; then
  # With a line for each member, so that a release shows what changed.
  node -e 'const f = require("fs"); f.writeFileSync(process.argv[2], JSON.stringify(JSON.parse(f.readFileSync(process.argv[1])), null, 1) + "\n")' \
    "$work/openapi.json" "$baseline"
  exit
fi
run() { # What a program says is shown where it fails.
  "$@" >"$work/said" 2>&1 || { cat "$work/said" >&2; exit 1; }
}

openapi() { run "$tools/venv/bin/openapi-spec-validator" "$work/openapi.json"; }
asyncapi() { run node "$here/asyncapi.mjs" "$work/asyncapi.json"; }
baseline() { # docs/openapi-breaks.txt: the breaks that were decided, a line for each, as oasdiff words them.
  run "$tools/bin/oasdiff" breaking "$baseline" "$work/openapi.json" --fail-on ERR --err-ignore "$root/docs/openapi-breaks.txt"
}
typescript() {
  mkdir "$work/typescript"
  cp "$here"/{package.json,tsconfig.json,client.ts} "$work/typescript"
  ln -s "$here/node_modules" "$work/typescript/node_modules"
  cd "$work/typescript"
  run node_modules/.bin/openapi-typescript "$work/openapi.json" --output api.d.ts
  run node_modules/.bin/tsc --project . --outDir made
  run node made/client.js "$url" "$ALMANAC_TOKEN"
}
python() {
  run "$tools/venv/bin/openapi-python-client" generate --path "$work/openapi.json" --config "$here/generator.yaml" \
    --meta none --output-path "$work/python/almanac_client"
  # Pictures and drawings are beyond this generator; whatever else it cannot make is a fault of the document.
  if grep -E '^Unable to|conflicting' "$work/said" >&2; then exit 1; fi
  run env PYTHONPATH="$work/python" "$tools/venv/bin/python" "$here/client.py" "$url" "$ALMANAC_TOKEN"
}
# Side by side: each takes seconds, most of them for a start.
for part in openapi asyncapi baseline typescript python; do
  (
    mkdir "$work/of-$part"
    ln -s "$work"/*.json "$work/of-$part"
    work=$work/of-$part
    "$part"
    echo "ok: $part"
  ) &
done
failed=0
for job in $(jobs -p); do wait "$job" || failed=1; done
exit $failed
