#!/usr/bin/env python3
"""Runs every test with cargo, then what failed once more, alone.

A test that fails twice fails the run. One that passes the second time is unstable: it is named at
the end, and more than MAX_UNSTABLE of them fail the run too (docs/adr/0086). The arguments go to
`cargo test`; CARGO names the cargo to use.
"""

import collections
import os
import re
import subprocess
import sys

MAX_UNSTABLE = 3

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
RUNNING = re.compile(r"^\s+Running (?:unittests )?(\S+) \(\S+\)$")
DOC_TESTS = re.compile(r"^\s+Doc-tests \S+$")
FAILED = re.compile(r"^test (.+?)(?: - should panic)? \.\.\. FAILED$")
TARGET_FAILED = re.compile(r"^error: test failed, to rerun pass `(.+)`$")
RESULT = re.compile(r"^test result: \S+\. (\d+) passed; (\d+) failed;")

Run = collections.namedtuple("Run", "status failed ran")


def run(command):
    """Passes on what the command prints. Notes the failed tests by target; a target that did not
    run to its end has none."""
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    failed, waiting, is_finished, ran = {}, [], False, 0
    for line in child.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        line = COLOUR.sub("", line.rstrip("\n"))
        if RUNNING.match(line) or DOC_TESTS.match(line):
            waiting, is_finished = [], False
        elif found := FAILED.match(line):
            waiting.append(found[1])
        elif found := RESULT.match(line):
            is_finished = True
            ran += int(found[1]) + int(found[2])
        elif found := TARGET_FAILED.match(line):
            failed[found[1]] = waiting if is_finished else []
    return Run(child.wait(), failed, ran)


def again(cargo, target, names):
    """Whether all of these tests pass, each with the machine to itself."""
    print(f"\nrun again, alone: {target}: {', '.join(names)}", flush=True)
    # The whole workspace, or other features were chosen and everything compiled again.
    selection = re.sub(r"^-p \S+ ", "", target).split()
    filters = ["--", "--exact", "--test-threads=1", *names]
    second = run([*cargo, "--workspace", *selection, *filters])
    return second.status == 0 and second.ran >= len(names)


def main():
    cargo = [os.environ.get("CARGO", "cargo"), "test", *sys.argv[1:]]
    first = run([*cargo, "--workspace", "--no-fail-fast"])
    if first.status == 0:
        return 0
    # A target that was killed or did not compile has no test to run again.
    if not first.failed or not all(first.failed.values()):
        print("\ntests did not run to their end", flush=True)
        return first.status
    if any("--doc" in target for target in first.failed):
        return first.status
    unstable, broken = [], []
    for target, names in first.failed.items():
        (unstable if again(cargo, target, names) else broken).extend(names)
    if unstable:
        print(f"\nunstable, passed the second time only: {', '.join(unstable)}")
    if broken:
        print(f"\nfailed twice: {', '.join(broken)}")
    if len(unstable) > MAX_UNSTABLE:
        print(f"\nmore than {MAX_UNSTABLE} tests are unstable")
    return 1 if broken or len(unstable) > MAX_UNSTABLE else 0


sys.exit(main())
