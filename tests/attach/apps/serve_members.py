"""Serves one of the members' apps on an inherited socket for a number of requests, then ends as any program ends.

Usage: serve_members.py flask|django|django-asgi|fastapi|mounted|celery FD REQUESTS
"""

import sys


def main(framework: str, fd: int, requests: int) -> None:
    if framework.startswith("django") or framework == "mounted":
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
    if framework in ("fastapi", "django-asgi", "mounted"):
        import uvicorn

        app = f"members_{framework}:app" if framework != "django-asgi" else "django.core.asgi:get_asgi_application"
        uvicorn.run(
            app,
            factory=framework == "django-asgi",
            fd=fd,
            limit_max_requests=requests,
            log_level="warning",
            lifespan="off",
        )
        return
    from werkzeug.serving import make_server

    if framework == "flask":
        from members_flask import app
    elif framework == "celery":
        from members_celery import app
    else:
        from django.core.wsgi import get_wsgi_application

        app = get_wsgi_application()
    server = make_server("127.0.0.1", 0, app, fd=fd)
    for _ in range(requests):  # one thread: whoever comes next must not be taken for whoever was there before
        server.handle_request()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
