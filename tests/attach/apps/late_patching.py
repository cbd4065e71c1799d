"""A script that lets gevent patch the standard library long after we were attached.

Usage: late_patching.py untouched|running|busy|hub GREENLETS SPANS ARRIVED
  untouched: nothing was tagged before the patch; none of our threads runs
  running: something was, and has been delivered; our threads sleep
  busy: something was, and our threads are at it
  hub: as untouched, and the first tagged span ends in a callback of the hub itself, which must not wait
  ARRIVED: a file; the script ends when it is there
"""

import json
import os
import sys

from beats import Beats
from opentelemetry import trace

before, greenlets, spans, arrived = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
tracer = trace.get_tracer("late")
provider = trace.get_tracer_provider()


def work(name):
    with tracer.start_as_current_span("work") as span:
        span.set_attributes({"posthog.event": "work done", "posthog.distinct_id": name})


if before in {"running", "busy"}:
    for number in range(spans):
        work(f"before-{number}")
if before == "running":
    assert provider.force_flush(20_000)

from gevent import monkey

monkey.patch_all()

import gevent

beats = Beats()


def beat():
    while True:
        gevent.sleep(0.002)
        beats.beat()


def worker(greenlet):
    for number in range(spans):
        work(f"{greenlet}-{number}")
        if number % 10 == 0:
            gevent.sleep(0)


def several():
    for number in range(spans):
        work(f"before-{number}")


beating = gevent.spawn(beat)
if before == "hub":
    gevent.get_hub().loop.run_callback(several)
    gevent.sleep(0.01)
gevent.joinall([gevent.spawn(worker, number) for number in range(greenlets)], raise_error=True)
# Two at once: whoever has to wait must let the other one go on.
flushes = [gevent.spawn(provider.force_flush, 20_000) for _ in range(2)]
gevent.joinall(flushes)
told = {"flushed": [flush.value for flush in flushes], **beats.take()}
# Whoever sleeps by now has to be woken by one that comes alone.
gevent.sleep(0.3)
work("last")
while not os.path.exists(arrived):
    gevent.sleep(0.01)
print(json.dumps(told), flush=True)
beating.kill()
if before in {"running", "busy"}:
    # Any thread that waits by `threading` across the patch has a hub of gevent's since, and an interpreter that ends
    # under one may crash or hang, with or without us.
    os._exit(0)
