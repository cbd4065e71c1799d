"""Runs the tasks as a worker would, at once."""

from tasks import pay, refund

assert pay.delay("o1").get() == "O1"
assert pay("o2") == "O2"
assert refund.delay("o3").get() == "tasks.refund"
