#!/usr/bin/env bash
# A virtual environment with the ordinary Confluent client and its Avro support, in .stack/venv.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=${ALMANAC_STACK_DIR:-$root/.stack}/venv
[ -e "$venv/complete" ] && exit 0
command -v python3 >/dev/null || { echo "python3 is missing" >&2; exit 1; }
python3 -m venv "$venv" || { echo "python3 has no venv; install python3-venv" >&2; exit 1; }
"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$root/tests/consumer/requirements.txt"
touch "$venv/complete"
