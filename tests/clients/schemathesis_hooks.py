"""Bodies that Schemathesis cannot write by itself: lines of JSON are text to it."""

import schemathesis

schemathesis.serializer.alias("application/x-ndjson", "text/plain")
