"""Runs Caddy with the Caddyfile before a stand-in for the APIs, and looks at what it passes on and counts."""

import http.server
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Echo(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = f"{self.server.name} {self.headers['X-Forwarded-For']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


def stand_in(name):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.name = name
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def ask(address, method="GET"):
    headers = {"X-Forwarded-For": "203.0.113.9"}
    data = b"{}" if method == "POST" else None
    request = urllib.request.Request(address, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got!r} instead of {wanted!r}")


site, inner, metrics = free_port(), free_port(), free_port()
queries, commands = stand_in("query"), stand_in("command")
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "..", "caddy", "Caddyfile"), encoding="utf-8") as file:
    text = file.read().replace("2021", str(inner)).replace("2020", str(metrics))
with tempfile.NamedTemporaryFile("w", suffix=".caddyfile") as config:
    config.write(text)
    config.flush()
    environment = dict(
        os.environ,
        ALMANAC_SITE=f"http://:{site}",
        ALMANAC_LISTEN=f":{site}",
        QUERY_API=f"127.0.0.1:{queries.server_port}",
        COMMAND_API=f"127.0.0.1:{commands.server_port}",
    )
    caddy = subprocess.Popen(
        ["caddy", "run", "--adapter", "caddyfile", "--config", config.name],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        base, figures = f"http://127.0.0.1:{site}", f"http://127.0.0.1:{metrics}"
        for _ in range(200):
            try:
                expect("alive", ask(f"{figures}/alive")[0], 200)
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        # Whom a client claims to speak for is not passed on.
        expect("a read", ask(f"{base}/v1/plans"), (200, "query 127.0.0.1"))
        expect("a write", ask(f"{base}/v1/recipes", "POST"), (200, "command 127.0.0.1"))
        expect("an outcome", ask(f"{base}/v1/commands/x"), (200, "command 127.0.0.1"))
        commands.shutdown()
        commands.server_close()
        expect("a write that nobody takes", ask(f"{base}/v1/recipes", "POST")[0], 502)
        counted = ask(f"{figures}/metrics")[1]
        for code, method, number in [(200, "GET", 2), (200, "POST", 1), (502, "POST", 1)]:
            name = "caddy_http_response_duration_seconds_count"
            start = f'{name}{{code="{code}",handler="subroute",method="{method}",'
            values = [line.split()[-1] for line in counted.splitlines() if line.startswith(start)]
            expect(f"{method} {code}", values, [str(number)])
        for bound in ["0.25", "1"]:
            if f'le="{bound}"' not in counted:
                sys.exit(f"no bucket of {bound} s")
    finally:
        caddy.terminate()
        caddy.wait()
print("what the proxy counts is what the objectives are made of")
