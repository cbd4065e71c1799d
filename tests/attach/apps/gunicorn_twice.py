"""A gunicorn configuration as blog posts advise it."""


def post_fork(server, worker):
    from opentelemetry.instrumentation.auto_instrumentation import initialize

    initialize()
