#!/usr/bin/env bash
# Fuzzes parsers, guided by coverage (docs/adr/0083): fuzzing/run.sh [SECONDS [TARGET...]]. Builds the tests that
# fuzzing/targets lists for libFuzzer, runs each for SECONDS (600), and stores the few inputs that reach most in
# fuzzing/corpus. With 0 seconds it only stores what earlier runs found. ALMANAC_FUZZ_FOLDER (target/fuzz) holds the
# build, all inputs found (corpus), logs, and inputs that fail (failures). Needs a C++ compiler and Python 3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-600}
[ $# = 0 ] || shift
[[ $seconds =~ ^[0-9]+$ ]] || { echo "usage: fuzzing/run.sh [SECONDS [TARGET...]]" >&2; exit 2; }
ALMANAC_FUZZ_FOLDER=$(realpath -m "${ALMANAC_FUZZ_FOLDER:-target/fuzz}")
export ALMANAC_FUZZ_FOLDER ALMANAC_FUZZ_SECONDS=$seconds
folder=$ALMANAC_FUZZ_FOLDER
mkdir -p "$folder/logs"
# An abort is how libFuzzer is told of a failure; nobody looks at its core.
ulimit -c 0

mapfile -t listed < <(sed '/^#/d' fuzzing/targets)
wanted=("$@")
for name in "${wanted[@]}"; do
  printf '%s\n' "${listed[@]}" | grep -q "^$name " || { echo "$name is not in fuzzing/targets" >&2; exit 2; }
done
is_wanted() {
  [ ${#wanted[@]} = 0 ] || printf '%s\n' "${wanted[@]}" | grep -qx -- "$1"
}

# As cargo-fuzz builds, on a stable compiler. With a target named, what runs while building is not instrumented.
flags="-Cpasses=sancov-module"
for flag in level=4 inline-8bit-counters pc-table trace-compares; do
  flags="$flags -Cllvm-args=-sanitizer-coverage-$flag"
done
# All of them always: with fewer packages cargo would choose other features, and compile everything again.
choice=(-p almanac-fuzzing --lib)
for line in "${listed[@]}"; do
  read -r _ package program _ <<<"$line"
  choice+=(-p "$package")
  [ "$program" = lib ] || choice+=(--test "$program")
done
RUSTFLAGS=$flags CARGO_INCREMENTAL=0 "${CARGO:-cargo}" test --locked --no-run --profile fuzzing \
  --target "$(rustc -vV | sed -n 's/^host: //p')" --target-dir "$folder/build" \
  --features almanac-fuzzing/guided "${choice[@]}" --message-format json-render-diagnostics >"$folder/build.json"
programs=$(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' "$folder/build.json")

fuzzed() { # One target; fails if an input does.
  local name=$1 program=$2 test=$3 log=$folder/logs/$1.log status=0 executions edges failure
  local command=("$program" "$test" --exact --nocapture --test-threads=1)
  if [ "$seconds" != 0 ]; then
    "${command[@]}" >"$log" 2>&1 || status=$?
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(grep -ao 'cov: [0-9]*' "$log" | tail -n 1 || true)
    echo "$name: ${executions:-no} executions, ${edges#cov: } edges"
    failure=$(sed -n 's/.*Test unit written to //p' "$log")
    if [ "$status" != 0 ] || [ -z "$executions" ]; then
      grep -aA 3 -m 1 'panicked at' "$log" || tail -n 5 "$log"
      echo "$name: FAILED (status $status): ${failure:-no input was run}; all it said is in $log" >&2
      status=1
    fi
  fi
  python3 fuzzing/keep.py "$name" "$folder" "${command[@]}" || status=1
  return "$status"
}

failed=()
for line in "${listed[@]}"; do
  read -r name package program test <<<"$line"
  is_wanted "$name" || continue
  [ "$program" = lib ] && program=${package//-/_}
  file=$(grep "/deps/$program-[0-9a-f]*$" <<<"$programs") || { echo "$program was not built" >&2; exit 1; }
  fuzzed "$name" "$file" "$test" || failed+=("$name")
done
if [ ${#failed[@]} != 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
