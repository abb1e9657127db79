"""Reads a calendar from the standard input with the icalendar library; prints its events as JSON, in the
order of their starts, and fails on what the library finds wrong."""

import json
import sys

from icalendar import Calendar

calendar = Calendar.from_ical(sys.stdin.buffer.read())
assert not calendar.errors, calendar.errors
for required in ("VERSION", "PRODID"):
    assert required in calendar, required
events = []
for event in calendar.walk("VEVENT"):
    assert not event.errors, event.errors
    for name in ("DTSTART", "DTEND", "DTSTAMP"):
        # A plan may have no end.
        assert name == "DTEND" and name not in event or event.decoded(name).utcoffset().total_seconds() == 0, name
    events.append(
        {
            "uid": str(event["UID"]),
            "summary": str(event["SUMMARY"]),
            "description": str(event["DESCRIPTION"]),
            "status": str(event["STATUS"]),
            "sequence": int(event["SEQUENCE"]),
            "start": event.decoded("DTSTART").isoformat(),
            "end": event.decoded("DTEND").isoformat() if "DTEND" in event else None,
            "stamp": event.decoded("DTSTAMP").isoformat(),
            "categories": [str(one) for one in event["CATEGORIES"].cats],
            "geo": [event["GEO"].latitude, event["GEO"].longitude] if "GEO" in event else None,
            "url": str(event["URL"]) if "URL" in event else None,
        }
    )
print(json.dumps(sorted(events, key=lambda event: event["start"])))
