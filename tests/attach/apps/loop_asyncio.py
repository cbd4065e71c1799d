"""A FastAPI app: each burst is fifty tasks with a tagged span each."""

import asyncio
from contextlib import asynccontextmanager

from beats import Beats
from fastapi import FastAPI
from opentelemetry import trace

tracer = trace.get_tracer("loop")
beats = Beats()


async def beat():
    while True:
        await asyncio.sleep(0.002)
        beats.beat()


@asynccontextmanager
async def lifespan(_app):
    beating = asyncio.create_task(beat())
    yield
    beating.cancel()


app = FastAPI(lifespan=lifespan)


async def work(person):
    with tracer.start_as_current_span("work") as span:
        await asyncio.sleep(0)
        span.set_attributes({"posthog.event": "work done", "posthog.distinct_id": person})


@app.get("/burst/{name}")
async def burst(name: str):
    await asyncio.gather(*[work(f"{name}-{number}") for number in range(50)])
    return "done"


@app.get("/beats")
async def read_beats():
    return {**beats.take(), "loop": type(asyncio.get_running_loop()).__module__}
