"""An ordinary Flask app that leaves work to Celery, and its worker: nothing of ours, nothing of OpenTelemetry."""

import os

from celery import Celery
from flask import Flask, request
from flask_login import LoginManager, UserMixin, login_required, login_user

folder = os.environ["MEMBERS_BROKER"]
queue = Celery("members", broker="filesystem://")
queue.conf.update(
    broker_transport_options={"data_folder_in": folder, "data_folder_out": folder, "control_folder": folder},
    worker_hijack_root_logger=False,
)
app = Flask("members")
app.secret_key = "not a secret"
logins = LoginManager(app)


class Account(UserMixin):
    def __init__(self, number):
        self.id = number
        self.company_id = f"company-{number}"


@logins.user_loader
def load(number):
    return Account(number)


@queue.task
def charge(amount):
    receipt.delay(amount)
    if amount > 100:
        raise ValueError("card declined")


@queue.task
def receipt(amount):
    return f"{amount} paid"


@app.post("/login")
def login():
    login_user(Account(request.form["name"]))
    return "welcome"


@app.post("/order")
@login_required
def order():
    charge.delay(int(request.form["amount"]))
    return "ordered"


@app.post("/try")
def free_trial():
    charge.delay(0)
    return "ordered"
