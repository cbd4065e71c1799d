"""An ordinary Flask app with Flask-Login: nothing of ours, nothing of OpenTelemetry."""

from flask import Flask, jsonify, request
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user, logout_user

app = Flask("members")
app.secret_key = "not a secret"
logins = LoginManager(app)
accounts = {}


class Account(UserMixin):
    def __init__(self, number, name):
        self.id = number
        self.name = name
        self.email = f"{name}@example.com"
        self.role = "owner" if number == 1 else "member"
        self.company_id = "acme"


@logins.user_loader
def load(number):
    return accounts.get(int(number))


def by_name(name):
    return next((account for account in accounts.values() if account.name == name), None)


@app.get("/")
def index():
    return "welcome"


@app.post("/signup")
def signup():
    account = Account(len(accounts) + 1, request.form["name"])
    accounts[account.id] = account
    login_user(account)
    return "welcome"


@app.post("/login")
def login():
    account = by_name(request.form["name"])
    if account is None:
        return "who?", 403
    login_user(account, remember=True)
    return "welcome back"


@app.post("/logout")
def logout():
    logout_user()
    return "bye"


@app.get("/me")
@login_required
def me():
    return jsonify(name=current_user.name)


@app.get("/fail")
@login_required
def fail():
    raise ValueError("no stock left")


@app.errorhandler(Exception)
def sorry(_error):
    return "sorry", 500
