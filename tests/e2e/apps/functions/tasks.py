"""A task of Celery."""

from celery import Celery

app = Celery("shop", broker="memory://")
app.conf.task_always_eager = True


@app.task
def pay(order):
    """Pays."""
    return order.upper()


@app.task(bind=True)
def refund(self, order):
    """Pays back."""
    return self.name
