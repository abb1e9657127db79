# Almanac behind Varnish, which drops what has changed as soon as it has: docs/caching.md. Debian: varnish and
# varnish-modules.
vcl 4.1;

import directors;
import std;
import xkey;

# Each instance of the query API. One that is not ready is passed over.
probe ready {
    .url = "/readyz";
    .interval = 2s;
    .timeout = 1s;
    .window = 3;
    .threshold = 2;
    .initial = 2;
}
backend first {
    .host = "127.0.0.1";
    .port = "8080";
    .probe = ready;
}
backend second {
    .host = "127.0.0.1";
    .port = "8081";
    .probe = ready;
}

# Where these instances ask from: http.purge.caches names this proxy there.
acl instances {
    "127.0.0.1";
    "::1";
}

sub vcl_init {
    new almanac = directors.round_robin();
    almanac.add_backend(first);
    almanac.add_backend(second);
}

sub vcl_recv {
    if (req.method == "PURGE") {
        if (client.ip !~ instances || !req.http.Surrogate-Key) {
            return (synth(403));
        }
        # Not softpurge: nobody is to be given what is known to be out of date.
        return (synth(200, "dropped " + xkey.purge(req.http.Surrogate-Key)));
    }
    set req.backend_hint = almanac.backend();
    if (std.healthy(req.backend_hint)) {
        # http.stale_while_revalidate. While no instance is there, an answer is given as long as it says
        # (stale-if-error).
        set req.grace = 10s;
    }
    # Almanac knows no cookies, and others' would keep everything from being kept.
    unset req.http.Cookie;
    # Server-sent events are handed on as they come.
    if (req.url ~ "^/v1/(events/|notifications/stream|analyses/[^/]+/stream)") {
        return (pipe);
    }
    if (req.http.Consistency-Token) {
        return (pass);
    }
}

sub vcl_pipe {
    # Of the next request on this connection, nothing may be handed on unseen.
    set bereq.http.Connection = "close";
}

sub vcl_backend_response {
    set beresp.http.xkey = beresp.http.Surrogate-Key;
    if (beresp.status >= 500 && bereq.is_bgfetch) {
        return (abandon);
    }
    if (beresp.ttl > 0s && beresp.http.Cache-Control ~ "stale-if-error=[0-9]+") {
        set beresp.grace = std.duration(
            regsub(beresp.http.Cache-Control, "^.*stale-if-error=([0-9]+).*$", "\1s"), 10s);
    }
}

sub vcl_deliver {
    unset resp.http.xkey;
    unset resp.http.Surrogate-Key;
    if (obj.hits > 0) {
        # Of whoever filled the cache.
        unset resp.http.RateLimit;
        set resp.http.Cache-Status = "HIT";
    } elsif (obj.uncacheable) {
        set resp.http.Cache-Status = "BYPASS";
    } else {
        set resp.http.Cache-Status = "MISS";
    }
}
