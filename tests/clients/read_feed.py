"""Reads a feed from the standard input with the feedparser library, and once more as strict XML; prints its
channel and items as JSON, and fails on what either finds wrong."""

import json
import sys
from xml.etree import ElementTree

import feedparser

text = sys.stdin.buffer.read()
feed = feedparser.parse(text)
assert not feed.bozo, feed.bozo_exception
assert feed.version == "rss20", feed.version
channel = ElementTree.fromstring(text).find("channel")
for required in ("title", "link", "description"):
    assert channel.findtext(required), required
items = []
for entry, element in zip(feed.entries, channel.findall("item"), strict=True):
    assert entry.guidislink is False, entry
    items.append(
        {
            "id": entry.id,
            # As it was written: feedparser takes what looks like markup away.
            "title": element.findtext("title"),
            "description": entry.description,
            "link": entry.link,
            "published": list(entry.published_parsed[:6]),
            "categories": [tag.term for tag in entry.tags],
        }
    )
links = {link.rel: link.href for link in feed.feed.links}
print(json.dumps({"title": feed.feed.title, "about": feed.feed.description, "links": links, "items": items}))
