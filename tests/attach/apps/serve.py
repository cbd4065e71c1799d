"""Serves one of the shops on an inherited socket for a number of requests, then ends as any program ends.

Usage: serve.py flask|django|fastapi FD REQUESTS
"""

import os
import sys


def sabotage():
    """Breaks the bridge from inside, in all three places where app code runs through it."""
    from otel_posthog.convert import Converter
    from otel_posthog.lane.shapes import Shapes
    from otel_posthog.sdk.processor import PostHogSpanProcessor

    def broken(*_, **__):
        raise RuntimeError("sabotage")

    Converter.convert = broken
    PostHogSpanProcessor._hand_over = broken
    PostHogSpanProcessor._stamp = broken
    Shapes.learn = broken


def main(framework: str, fd: int, requests: int) -> None:
    if os.environ.get("SABOTAGE"):
        sabotage()
    if framework == "fastapi":
        import uvicorn

        uvicorn.run("shop_fastapi:app", fd=fd, limit_max_requests=requests, log_level="warning")
        return
    from werkzeug.serving import make_server

    if framework == "flask":
        from shop_flask import app
    else:
        from django.core.wsgi import get_wsgi_application

        app = get_wsgi_application()
    server = make_server("127.0.0.1", 0, app, fd=fd)
    for _ in range(requests):
        server.handle_request()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
