"""A Flask shop whose first request starts threads that serve everybody later.

Usage: outliving.py FD REQUESTS
"""

import os
import queue
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from flask import Flask, request
from werkzeug.serving import make_server

import otel_posthog

app = Flask("shop")
jobs = queue.Queue()
answered = threading.Event()
started = []


def work():
    """One job after another, each for somebody."""
    while (job := jobs.get()) is not None:
        how, user = job
        if how == "named":
            otel_posthog.capture("job named", distinct_id=user)
        else:
            otel_posthog.identify(user)
            otel_posthog.capture("job identified")
        jobs.task_done()


def finish():
    """What a request leaves behind."""
    assert answered.wait(60)
    otel_posthog.capture("mail sent")
    otel_posthog.capture("receipt filed", distinct_id="ada")


@app.get("/start")
def start():
    otel_posthog.identify("ada")
    otel_posthog.group("company", "acme")
    pool = ThreadPoolExecutor(1)
    pool.submit(otel_posthog.capture, "pooled").result(60)
    threads = [threading.Thread(target=work), threading.Thread(target=finish)]
    for thread in threads:
        thread.start()
    started.extend([pool, *threads])
    return "started"


@app.get("/job")
def job():
    user = request.args["user"]
    otel_posthog.identify(user)
    started[0].submit(otel_posthog.capture, "pooled").result(60)
    jobs.put((request.args["how"], user))
    jobs.join()
    return "done"


@app.get("/nobody")
def nobody():
    otel_posthog.capture("seen")
    return "hello"


otel_posthog.identify("deployer")  # of the process, and of none of its visitors
otel_posthog.capture("booted")
server = make_server("127.0.0.1", 0, app, fd=int(sys.argv[1]))
for number in range(int(sys.argv[2])):
    server.handle_request()
    if number == 0:
        answered.set()
        started[2].join(60)
jobs.put(None)
server.server_close()
started[0].shutdown()
assert otel_posthog.flush(60), os.getpid()
