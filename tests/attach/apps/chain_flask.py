"""Two services in a row, as people write them: the first knows who it is, the second only works.

Usage: chain_flask.py FD REQUESTS
"""

import os
import sys

import requests
from flask import Flask
from opentelemetry import trace

app = Flask("chain")


@app.get("/checkout")
def checkout():
    import otel_posthog
    from otel_posthog.context import current_work

    otel_posthog.identify("ada")
    otel_posthog.group("company", "acme")
    # As the flags client does when a flag has been asked for.
    current_work().change(flags={"new-checkout": True})
    with otel_posthog.super_properties(plan="pro", secret="stays here"):
        requests.get(os.environ["ORDERS"] + "/order", timeout=60)
        requests.get(os.environ["FOREIGN"] + "/hook", timeout=60)
        otel_posthog.capture("checked out")
    return "thank you"


@app.get("/order")
def order():
    with trace.get_tracer("orders").start_as_current_span("reserve") as span:
        span.set_attribute("posthog.event", "order placed")
    requests.get(os.environ["FOREIGN"] + "/supplier", timeout=60)
    import otel_posthog

    otel_posthog.capture("order counted")
    return "placed"


@app.get("/browse/<path>")
def browse(path):
    import otel_posthog

    trace.get_current_span().set_attribute("enduser.pseudo.id", "visitor-1")
    otel_posthog.capture(f"{path} asked for")
    requests.get(f"{os.environ['ORDERS']}/{path}", timeout=60)
    return "here"


@app.get("/mugs")
def mugs():
    import otel_posthog

    otel_posthog.capture("mugs seen")
    return "mugs"


@app.get("/login")
def login():
    import otel_posthog

    otel_posthog.identify("ada")
    otel_posthog.capture("logged in")
    return "welcome"


def main(fd: int, count: int) -> None:
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, app, fd=fd)
    for _ in range(count):
        server.handle_request()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
