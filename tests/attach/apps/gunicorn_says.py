"""gunicorn's configuration: says when a worker takes signals. One that came before is lost, and costs half a minute."""


def post_worker_init(worker):
    print("ready", flush=True)
