"""Serves one of the apps on an inherited socket: serve.py MODULE FD. ASGI apps by uvicorn, others by Werkzeug."""

import socket
import sys
from importlib import import_module


def main(module: str, fd: int) -> None:
    """Serves until it is ended."""
    found = import_module(module)
    app = found.application() if module == "shop_django" else found.app
    if hasattr(app, "router"):  # Starlette's and FastAPI's
        import uvicorn

        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([socket.socket(fileno=fd)])
    else:
        from werkzeug.serving import make_server

        make_server("127.0.0.1", 0, app, threaded=True, fd=fd).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
