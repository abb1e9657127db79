#!/usr/bin/env bash
# The clients of others that tests use: in .stack/venv the ordinary Confluent client with its Avro
# support, Schemathesis, validators of documents and a generator of clients; in tests/console what drives a
# browser; in tests/clients/contracts more of the validators and generators; in .stack/bin what compares
# OpenAPI documents.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tools=${ALMANAC_STACK_DIR:-$root/.stack}
venv=$tools/venv
command -v npm >/dev/null || { echo "npm is missing; install nodejs (20 or newer) and npm" >&2; exit 1; }
command -v chromium >/dev/null || { echo "chromium is missing; install it" >&2; exit 1; }
PATH=$PATH:/usr/sbin command -v varnishd >/dev/null ||
  { echo "varnishd is missing; install varnish and varnish-modules" >&2; exit 1; }
for folder in "$root/tests/console" "$root/tests/clients/contracts"; do
  if ! cmp -s "$folder/package-lock.json" "$folder/node_modules/installed"; then
    npm ci --prefix "$folder" --silent
    cp "$folder/package-lock.json" "$folder/node_modules/installed"
  fi
done
oasdiff=v1.37.0
if [ ! -x "$tools/bin/oasdiff" ] || [ "$(cat "$tools/bin/oasdiff.version" 2>/dev/null)" != "$oasdiff" ]; then
  command -v go >/dev/null || { echo "go is missing; install it (1.26 or newer)" >&2; exit 1; }
  GOBIN=$tools/bin go install "github.com/oasdiff/oasdiff@$oasdiff"
  echo "$oasdiff" >"$tools/bin/oasdiff.version"
fi
wanted=$root/tests/clients/requirements.txt
cmp -s "$wanted" "$venv/installed" && exit 0
command -v python3 >/dev/null || { echo "python3 is missing" >&2; exit 1; }
python3 -m venv "$venv" || { echo "python3 has no venv; install python3-venv" >&2; exit 1; }
"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
cp "$wanted" "$venv/installed"
