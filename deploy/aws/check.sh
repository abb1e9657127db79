#!/usr/bin/env bash
# Type-checks the CDK app and makes its templates, in cdk.out; needs no account and asks AWS nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
if ! cmp -s package-lock.json node_modules/installed; then
  npm ci --silent
  cp package-lock.json node_modules/installed
fi
npx --no-install tsc
npx --no-install cdk synth --quiet
for stack in AlmanacData AlmanacRuntime AlmanacEdge; do
  test -s "cdk.out/$stack.template.json" || { echo "no template of $stack" >&2; exit 1; }
done
