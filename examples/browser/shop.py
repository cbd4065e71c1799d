"""A shop with a page: Flask, Flask-Login, and one tag in the template. It asks the service `orders` for the rest."""

import os

import requests
from flask import Flask, jsonify, redirect, render_template, request
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user

import otel_posthog
from otel_posthog import flags
from otel_posthog.browser import install

ORDERS = os.environ.get("ORDERS", "http://127.0.0.1:5002")

app = Flask(__name__)
app.secret_key = os.environ.get("SHOP_SECRET", "only-for-the-example")
install(app)
logins = LoginManager(app)


class Account(UserMixin):
    company = "acme"

    def __init__(self, name):
        self.id = name


@logins.user_loader
def load(name):
    return Account(name)


@app.get("/")
def index():
    button = flags.variant("order-button", default="plain") if current_user.is_authenticated else "plain"
    offers = requests.get(f"{ORDERS}/offers", timeout=30).json()
    return render_template("shop.html", button=button, offers=offers)


@app.post("/login")
def login():
    login_user(Account(request.form["name"]))
    return redirect("/")


@app.post("/logout")
def logout():
    logout_user()
    return redirect("/")


@app.post("/order")
def order():
    if not current_user.is_authenticated:
        return "who?", 403
    otel_posthog.capture("order placed", {"total": 12.5})
    flags.variant("order-button")
    placed = requests.post(f"{ORDERS}/orders", json={"total": 12.5}, timeout=30)
    return jsonify(placed.json())
