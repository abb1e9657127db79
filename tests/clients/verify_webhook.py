"""Holds a webhook against its signature with the library of Standard Webhooks. Reads a line of JSON
with `secret`, `headers` and `body`; prints `verified` or `refused`."""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

given = json.load(sys.stdin)
try:
    event = Webhook(given["secret"]).verify(given["body"], given["headers"])
except WebhookVerificationError:
    print("refused")
else:
    assert event == json.loads(given["body"])
    print("verified")
