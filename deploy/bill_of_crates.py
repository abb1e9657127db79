"""A CycloneDX bill of the crates in the binary, from `cargo metadata` on standard input.

What a scanner finds in the image are Debian's packages: a Rust binary does not say what it was linked of."""

import json
import pathlib
import sys
import tomllib


def reached(metadata, root):
    """The ids of packages that are linked into `root`: no tools of the build's machine, no tests."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    seen, left = set(), [root]
    while left:
        one = left.pop()
        if one in seen:
            continue
        seen.add(one)
        for dependency in nodes[one]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                left.append(dependency["pkg"])
    return seen, nodes


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def bill(metadata, checksums):
    packages = {package["id"]: package for package in metadata["packages"]}
    root = next(one for one in packages.values() if one["name"] == "almanac" and one["source"] is None)
    ids, nodes = reached(metadata, root["id"])

    def component(package):
        described = {
            "type": "application" if package is root else "library",
            "bom-ref": purl(package),
            "name": package["name"],
            "version": package["version"],
            "purl": purl(package),
        }
        if package["license"]:
            # Crates of before SPDX's operators wrote a slash.
            described["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        checksum = checksums.get((package["name"], package["version"]))
        if checksum:
            described["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return described

    kept = sorted((packages[one] for one in ids if one != root["id"]), key=purl)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(root)},
        "components": [component(package) for package in kept],
        "dependencies": [
            {
                "ref": purl(packages[one]),
                "dependsOn": sorted({purl(packages[d["pkg"]]) for d in nodes[one]["deps"] if d["pkg"] in ids}),
            }
            for one in sorted(ids, key=lambda one: purl(packages[one]))
        ],
    }


lock = tomllib.loads((pathlib.Path(__file__).parent.parent / "Cargo.lock").read_text())
checksums = {(one["name"], one["version"]): one["checksum"] for one in lock["package"] if "checksum" in one}
print(json.dumps(bill(json.load(sys.stdin), checksums), indent=1))
