"""Serves one of the shops on an inherited socket: serve.py flask|django FD."""

import sys


def main(framework: str, fd: int) -> None:
    """Serves until it is ended."""
    from werkzeug.serving import make_server

    if framework == "flask":
        from shop_flask import app
    else:
        import shop_django

        app = shop_django.application()
    make_server("127.0.0.1", 0, app, threaded=True, fd=fd).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
