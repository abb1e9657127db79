"""Prints the queries of dashboards as rules, for promtool to parse, and refuses what Grafana would show as broken."""

import json
import sys

import yaml

rules, uids = [], set()
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        board = json.load(file)
    if board["uid"] in uids:
        sys.exit(f"{path}: another dashboard has the uid {board['uid']}")
    uids.add(board["uid"])
    ids = [panel["id"] for panel in board["panels"]]
    if len(ids) != len(set(ids)):
        sys.exit(f"{path}: two panels have one id")
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        if place["x"] + place["w"] > 24 or cells & taken:
            sys.exit(f"{path}: {panel['title']} lies outside or upon another panel")
        taken |= cells
        if not panel["targets"] or panel["datasource"]["uid"] != "prometheus":
            sys.exit(f"{path}: {panel['title']} asks nothing, or of a source that is not provisioned")
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "5m")
            for variable in board["templating"]["list"]:
                query = query.replace("$" + variable["name"], ".*")
            if "$" in query:
                sys.exit(f"{path}: {panel['title']} names a variable that the dashboard has not")
            rules.append({"record": f"panel:{len(rules)}", "expr": query})
yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}, sys.stdout)
