#!/usr/bin/env bash
# A virtual environment with the clients of others that tests use, in .stack/venv: the ordinary
# Confluent client with its Avro support, Schemathesis, and a validator of compose files.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=${ALMANAC_STACK_DIR:-$root/.stack}/venv
wanted=$root/tests/clients/requirements.txt
cmp -s "$wanted" "$venv/installed" && exit 0
command -v python3 >/dev/null || { echo "python3 is missing" >&2; exit 1; }
python3 -m venv "$venv" || { echo "python3 has no venv; install python3-venv" >&2; exit 1; }
"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
cp "$wanted" "$venv/installed"
