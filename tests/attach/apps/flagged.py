"""A shop that asks for flags the ordinary way, and is started without a line about who does.

Usage: flagged.py PERSON …: each buys once, and looks around afterwards; prints what they were given.
"""

import json
import sys
from types import SimpleNamespace

from flask import Flask, g, request
from opentelemetry import trace

from otel_posthog import flags

app = Flask("shop")


@app.before_request
def who():
    g.user = SimpleNamespace(id=request.headers["authorization"])


@app.get("/buy")
def buy():
    given = {
        "new checkout": [flags.enabled("new-checkout") for _ in range(3)],
        "button": flags.variant("button"),
        "off": flags.enabled("off", default=True),
        "no such flag": flags.enabled("no-such-flag", default=True),
        "colour": flags.config("button")["colour"],
    }
    with trace.get_tracer("shop").start_as_current_span("pay") as span:
        span.set_attribute("posthog.event", "order paid")
    raise ValueError(json.dumps(given))


@app.errorhandler(ValueError)
def sorry(error):
    return str(error), 500


@app.get("/home")
def home():
    trace.get_current_span().set_attribute("posthog.event", "home seen")
    return "welcome"


browser = app.test_client()
for person in sys.argv[1:]:
    print("GIVEN", browser.get("/buy", headers={"authorization": person}).text)
    browser.get("/home", headers={"authorization": person})
