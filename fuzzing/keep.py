#!/usr/bin/env python3
"""Stores the few inputs of a target that reach most: keep.py NAME FOLDER COMMAND...

COMMAND runs the target under libFuzzer. What was found lies in FOLDER/corpus/NAME, what the test itself starts
with in FOLDER/seeds/NAME; what is worth it goes to fuzzing/corpus/NAME, within the bounds below, which
fuzzing/src/tests.rs holds too. Files there that somebody gave a name stay; those named by this program may go.
"""

import hashlib
import os
import pathlib
import re
import subprocess
import sys

MOST_FILES = 60
MOST_BYTES = 60 << 10
LONGEST = 16 << 10
ATTEMPTS = 20

# Of the inputs that reach as much, the shorter is taken, but a few bytes more or less do not matter.
FREE_BYTES = 256
# What is stored already stays, unless something is clearly better: less to commit.
STORED_IS_WORTH = 1.5

OURS = re.compile(r"[0-9a-f]{16}")


def files(folder):
    return sorted(path for path in folder.glob("*") if path.is_file())


def measured(inputs, folder, command):
    """What libFuzzer sees each of the inputs reach; none for one that fails.

    Its inner step of merging does that: it reads a file that lists inputs, and adds to it."""
    control = folder / "merge"
    control.write_text("\n".join([str(len(inputs)), "0", *map(str, inputs)]) + "\n")
    # Only code that is run counts here, not how near comparisons are.
    flags = f"-merge_inner=2\n-merge_control_file={control}\n-use_value_profile=0"
    environment = {**os.environ, "ALMANAC_FUZZ_FLAGS": flags}
    reached, started = [None] * len(inputs), 0
    for _ in range(ATTEMPTS):
        # It goes on behind an input that ended it.
        ran = subprocess.run(command, env=environment, capture_output=True, check=False)
        for line in control.read_text().splitlines()[2 + len(inputs) :]:
            kind, at, *numbers = line.split()
            if kind == "STARTED":
                started = max(started, int(at) + 1)
            elif kind == "FT":
                reached[int(at)] = [int(number) for number in numbers]
        if started == len(inputs) and ran.returncode == 0:
            break
    else:
        sys.exit(f"{started} of {len(inputs)} inputs could be run: {ran.stderr[-2000:].decode(errors='replace')}")
    control.unlink()
    return reached


class Bits:
    """Sets of numbers as integers, which are quick to compare."""

    def __init__(self):
        self.places = {}

    def of(self, numbers):
        bits = 0
        for number in set(numbers):
            bits |= 1 << self.places.setdefault(number, len(self.places))
        return bits


def main():
    name, folder, *command = sys.argv[1:]
    folder = pathlib.Path(folder)
    kept = pathlib.Path(__file__).resolve().parent / "corpus" / name
    seeds = files(folder / "seeds" / name)
    named = [path for path in files(kept) if not OURS.fullmatch(path.name)]
    stored = [path for path in files(kept) if OURS.fullmatch(path.name)]
    found = [path for path in files(folder / "corpus" / name) if path.stat().st_size <= LONGEST]
    inputs = [*seeds, *named, *stored, *found]
    if not inputs:
        return print(f"{name}: nothing is stored")

    edges, features, candidates = Bits(), Bits(), []
    covered_edges = covered_features = 0
    taken = {path.read_bytes() for path in named}
    size = sum(map(len, taken))
    for path, reached in zip(inputs, measured(inputs, folder, command)):
        if reached is None:
            print(f"{name}: not stored, as it fails: {path}", file=sys.stderr)
            continue
        # libFuzzer tells eight counts of how often an edge was run.
        these = edges.of(number // 8 for number in reached), features.of(reached)
        if path in seeds or path in named:
            covered_edges |= these[0]
            covered_features |= these[1]
        else:
            worth = STORED_IS_WORTH if path in stored else 1
            candidates.append((path.read_bytes(), *these, worth))

    while len(taken) < MOST_FILES:
        best, gain = None, (0, 0)
        for candidate in candidates:
            data, its_edges, its_features, worth = candidate
            if data in taken or size + len(data) > MOST_BYTES:
                continue
            weight = worth / (FREE_BYTES + len(data))
            new = (its_edges & ~covered_edges).bit_count(), (its_features & ~covered_features).bit_count()
            # Edges come first: how often one is run matters when there is room left.
            if (new[0] * weight, new[1] * weight) > gain:
                best, gain = candidate, (new[0] * weight, new[1] * weight)
        if best is None:
            break
        taken.add(best[0])
        size += len(best[0])
        covered_edges |= best[1]
        covered_features |= best[2]

    kept.mkdir(parents=True, exist_ok=True)
    wanted = {hashlib.sha1(data).hexdigest()[:16]: data for data in taken}
    for path in stored:
        if path.name not in wanted:
            path.unlink()
    there = {path.read_bytes() for path in named}
    for digest, data in wanted.items():
        if data not in there:
            (kept / digest).write_bytes(data)
    seen = len(edges.places)
    print(f"{name}: {len(found)} inputs found, {len(taken)} stored: {size} bytes, {covered_edges.bit_count()} of {seen} edges")


main()
