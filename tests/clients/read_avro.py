"""Reads every file of an export with fastavro, and prints what it found as JSON."""

import json
import pathlib
import sys

import fastavro

folder = pathlib.Path(sys.argv[1])
files = {}
for path in sorted(folder.rglob("*.avro")):
    with path.open("rb") as file:
        reader = fastavro.reader(file)
        records = list(reader)
        body = next(f["type"] for f in reader.writer_schema["fields"] if f["name"] == "body")
    offsets = [record["offset"] for record in records]
    files[str(path.relative_to(folder))] = {
        "records": len(records),
        "first": offsets[0],
        "last": offsets[-1],
        "body": body[1]["name"] if isinstance(body, list) else None,
        "keys": sorted({record["key"].decode() for record in records}),
    }
json.dump(files, sys.stdout)
