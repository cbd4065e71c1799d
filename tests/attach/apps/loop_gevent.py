"""A Flask app for `gunicorn -k gevent`: each burst is fifty greenlets with a tagged span each."""

import gevent
from beats import Beats
from flask import Flask
from opentelemetry import trace

app = Flask("loop")
tracer = trace.get_tracer("loop")
beats = Beats()


def beat():
    while True:
        gevent.sleep(0.002)
        beats.beat()


def work(person):
    with tracer.start_as_current_span("work") as span:
        gevent.sleep(0)
        span.set_attributes({"posthog.event": "work done", "posthog.distinct_id": person})


@app.get("/burst/<name>")
def burst(name):
    gevent.joinall([gevent.spawn(work, f"{name}-{number}") for number in range(50)], raise_error=True)
    return "done"


@app.get("/beats")
def read_beats():
    return beats.take()


gevent.spawn(beat)
