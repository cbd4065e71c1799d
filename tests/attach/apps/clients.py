"""Two services that know each other by every client there is: the first calls, the second says what it was told.

Usage: clients.py FD. The first has SECOND in its environment: the addresses of the second, as that gives them.
"""

import asyncio
import json
import os
import sys
import threading
import urllib.request

import aiohttp
import confluent_kafka
import grpc
import grpc.aio
import httpx
import kafka
import requests
import urllib3
from celery import Celery
from flask import Flask, jsonify, redirect, request
from opentelemetry import context, propagate

import otel_posthog

app = Flask("clients")
folder = os.environ["BROKER"]
queue = Celery("clients", broker="filesystem://")
queue.conf.broker_transport_options = {"data_folder_in": folder, "data_folder_out": folder, "control_folder": folder}
PLACE, WATCH = "/shop.Orders/Place", "/shop.Orders/Watch"
seen = {}
addresses = {}
worked = threading.Semaphore(0)
over = False


def placed(client, headers):
    """What the second service does with a call, whichever way that came."""
    seen[client] = {str(name).lower(): str(value) for name, value in headers}
    otel_posthog.capture("order placed", {"client": client})


# --- the first -------------------------------------------------------------------------------------------------------


def second(what, host):
    """An address of the second service, under the name that counts as its own or as a foreign one."""
    return json.loads(os.environ["SECOND"])[what].replace("127.0.0.1", host)


async def by_httpx(url):
    async with httpx.AsyncClient(follow_redirects=True, trust_env=False) as client:
        await client.get(url)


async def by_aiohttp(url):
    async with aiohttp.ClientSession() as client, client.get(url) as response:
        await response.read()


def by_requests(url):
    with requests.Session() as session:
        session.get(url, timeout=60)


def by_urllib(url):
    with urllib.request.urlopen(url, timeout=60) as response:
        response.read()


def by_httpx_sync(url):
    with httpx.Client(follow_redirects=True, trust_env=False) as client:
        client.get(url)


HTTP = {
    "requests": by_requests,
    "urllib": by_urllib,
    "urllib3": lambda url: urllib3.PoolManager().request("GET", url),
    "httpx": by_httpx_sync,
    "httpx async": lambda url: asyncio.run(by_httpx(url)),
    "aiohttp": lambda url: asyncio.run(by_aiohttp(url)),
}


def by_grpc(name, host):
    with grpc.insecure_channel(second("grpc", host)) as channel:
        channel.unary_unary(PLACE)(name.encode(), timeout=60, wait_for_ready=True)
        list(channel.unary_stream(WATCH)(f"stream {name}".encode(), timeout=60, wait_for_ready=True))


def by_grpc_aio(name, host):
    async def call():
        async with grpc.aio.insecure_channel(second("grpc", host)) as channel:
            await channel.unary_unary(PLACE)(name.encode(), timeout=60, wait_for_ready=True)
            stream = channel.unary_stream(WATCH)(f"stream {name}".encode(), timeout=60, wait_for_ready=True)
            assert [part async for part in stream] == [b""]

    asyncio.run(call())


def by_kafka_python(name, host):
    # librdkafka's broker does not tell its version.
    producer = kafka.KafkaProducer(bootstrap_servers=[second("kafka", host)], api_version=(2, 3))
    producer.send(name.replace(" ", "-"), name.encode()).get(60)
    producer.close()


def by_confluent_kafka(name, host):
    producer = confluent_kafka.Producer({"bootstrap.servers": second("kafka", host)})
    producer.produce(name.replace(" ", "-"), name.encode())
    assert producer.flush(60) == 0


OTHERS = {"grpc": by_grpc, "grpc aio": by_grpc_aio, "kafka-python": by_kafka_python, "confluent": by_confluent_kafka}


@app.get("/call/<way>")
def call(way):
    otel_posthog.identify("ada@shop.example")
    otel_posthog.group("company", "acme")
    otel_posthog.context.current_work().change(flags={"new-checkout": True})
    run = request.args["run"]
    host = "127.0.0.1" if way in ("own", "redirect", "celery") else "localhost"
    with otel_posthog.super_properties(plan="pro", secret="stays here"):
        if way == "celery":
            place.delay(f"celery {run}")
            return "called"
        for name, by in HTTP.items():
            path = f"redirect/{request.args['status']}" if way == "redirect" else "order"
            by(f"http://{second('http', host)}/{path}?client={name} {way} {run}".replace(" ", "%20"))
        if way != "redirect":
            for name, by in OTHERS.items():
                by(f"{name} {way} {run}", host)
    return "called"


# --- the second ------------------------------------------------------------------------------------------------------


@queue.task
def place(name):
    placed(name, [])
    worked.release()


@app.get("/order")
def order():
    placed(request.args["client"], request.headers.items())
    return "placed"


@app.get("/redirect/<int:status>")
def elsewhere(status):
    to = f"http://localhost:{addresses['http'].partition(':')[2]}/order?client={request.args['client']}"
    return redirect(to.replace(" ", "%20"), status)


@app.get("/work")
def work():
    from celery.contrib.testing.worker import start_worker

    with start_worker(queue, perform_ping_check=False, pool="solo", loglevel="error"):
        for _ in range(int(request.args["tasks"])):
            assert worked.acquire(timeout=60)
    return "worked"


@app.get("/consume")
def consume():
    """As OpenTelemetry's instrumentation of Kafka has it: who takes a message takes its context, too."""
    topic = request.args["topic"]
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=[addresses["kafka"]], api_version=(2, 3), consumer_timeout_ms=60_000
    )
    consumer.assign([kafka.TopicPartition(topic, number) for number in range(4)])
    consumer.seek_to_beginning()
    message = next(consumer)
    consumer.close()
    headers = {name: value.decode() for name, value in message.headers}
    token = context.attach(propagate.extract(headers, context.Context()))
    placed(message.value.decode(), headers.items())
    context.detach(token)
    return "consumed"


@app.get("/addresses")
def told():
    return jsonify(addresses)


@app.get("/seen")
def shown():
    return jsonify(seen)


@app.get("/end")
def end():
    global over
    over = True
    return "goodbye"


def serve_grpc():
    from concurrent.futures import ThreadPoolExecutor

    def handle(body, details):
        placed(body.decode(), details.invocation_metadata())
        return b""

    server = grpc.server(ThreadPoolExecutor(2))
    methods = {
        "Place": grpc.unary_unary_rpc_method_handler(handle),
        "Watch": grpc.unary_stream_rpc_method_handler(lambda body, details: iter([handle(body, details)])),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("shop.Orders", methods)])
    addresses["grpc"] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    return server


def main(fd):
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, app, fd=fd)
    addresses["http"] = f"127.0.0.1:{server.socket.getsockname()[1]}"
    if "SECOND" not in os.environ:
        remote = serve_grpc()
        broker = confluent_kafka.Producer({"test.mock.num.brokers": "1", "bootstrap.servers": "x:1", "log_level": 0})
        (member,) = broker.list_topics(timeout=60).brokers.values()
        addresses["kafka"] = f"127.0.0.1:{member.port}"
    while not over:
        server.handle_request()
    if "SECOND" not in os.environ:
        remote.stop(None).wait()


if __name__ == "__main__":
    main(int(sys.argv[1]))
