"""A Flask app with Flask-Login whose pages carry the script; nothing else of it knows PostHog, but for two calls."""

import os

from flask import Flask, jsonify, redirect, render_template, request
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user

import otel_posthog
from otel_posthog import flags
from otel_posthog.browser import install, relay_blueprint

app = Flask(__name__)
app.secret_key = "not a secret"
logins = LoginManager(app)
install(app)
app.register_blueprint(relay_blueprint(), url_prefix="/relay")


class Account(UserMixin):
    def __init__(self, number):
        self.id = number
        self.company = "acme"


@logins.user_loader
def load(number):
    """Whoever a session names."""
    return Account(number)


@app.get("/")
def index():
    """The page."""
    button = flags.variant("button", default="plain") if current_user.is_authenticated else "plain"
    return render_template("shop.html", button=button, note=request.args.get("note", ""), user=current_user)


@app.get("/bare")
def bare():
    """A page without the script."""
    return "<!doctype html><title>Bare</title>"


@app.post("/login")
def login():
    """Logs in whoever says a name."""
    login_user(Account(request.form["name"]))
    return redirect("/")


@app.post("/logout")
def logout():
    """Logs out."""
    logout_user()
    return redirect("/")


@app.post("/api/order")
def order():
    """Somebody orders."""
    if not current_user.is_authenticated:
        return "who?", 403
    otel_posthog.capture("order placed", {"total": 12.5})
    return jsonify({})


NONCE = os.environ.get("SHOP_NONCE", "")


@app.context_processor
def policy():
    """As Flask-Talisman does."""
    return {"csp_nonce": lambda: NONCE} if NONCE else {}


@app.after_request
def strict(response):
    """The policy that goes with it."""
    if NONCE:
        response.headers["Content-Security-Policy"] = f"script-src 'nonce-{NONCE}'; object-src 'none'; base-uri 'none'"
    return response


def consent(request):
    """What OTEL_POSTHOG_BROWSER_CONSENT names."""
    return {"yes": True, "no": False}.get(request.cookies.get("consent"))
