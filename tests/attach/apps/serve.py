"""Serves one of the shops on an inherited socket for a number of requests, then ends as any program ends.

Usage: serve.py flask|django|fastapi FD REQUESTS
"""

import sys


def main(framework: str, fd: int, requests: int) -> None:
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
