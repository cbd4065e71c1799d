"""The apps that the snippets were written for: a Flask app with people who log in, and a request of Django's kind.

Usage: world.py   (snippets on stdin, outcomes on stdout, both JSON; where to send is in the environment)

Each snippet runs as it is written, but for the modules that it imports from. Code that would stand in a view runs in a
request to `/dashboard` of somebody logged in, whose id is the snippet's name; routes that it defines are then visited
by that person and by nobody. Data runs through the call that it is the argument of.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import types
from functools import partial
from typing import Any
from unittest import mock

import flask
import flask_login
import jinja2
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import TracerProvider

import otel_posthog
from otel_posthog import auto, facades, flags
from otel_posthog.instrumentation.flask import PostHogFlaskInstrumentor
from tests.seeds.rewriting import OWN, in_function, tree_of

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
SITE = "https://app.example.com"


class FeatureFlags(flags.Registry):
    """The app's flags."""

    NEW_DASHBOARD = "new-dashboard"
    BETA_FEATURES = "beta-features"
    ADVANCED_REPORTS = "advanced-reports"
    ENABLE_EXPORTS = "enable-exports"
    NEW_TIMER_UI = "new-timer-ui"
    NEW_UI = "new-ui"
    ONBOARDING_FLOW = "onboarding-flow"
    TIMER_UI_EXPERIMENT = "timer-ui-experiment"
    DASHBOARD_CONFIG = "dashboard-config"
    RISKY_FEATURE = "risky-feature"
    MY_NEW_FEATURE = "my-new-feature"


class User(flask_login.UserMixin):  # type: ignore[misc]
    """Somebody with an account."""

    def __init__(self, name: str) -> None:
        self.id = name


class World:
    """One document's names, and the apps that its snippets run in."""

    def __init__(self, template: str) -> None:
        self.template = template
        self.names: dict[str, Any] = {name: getattr(facades, name) for name in facades.__all__}
        self.names.update(
            posthog=facades,
            mock=mock,
            render_template=flask.render_template,
            abort=flask.abort,
            current_user=flask_login.current_user,
            true=True,  # one piece of data is written as JSON
            value=42,
        )

    def new_app(self) -> flask.Flask:
        """An app with one person, and the pages that the snippets render."""
        app = flask.Flask("shop")
        app.secret_key = "not a secret"
        app.testing = True
        flask_login.LoginManager(app).user_loader(User)
        answer = app.make_response
        # Where a document leaves out how a view goes on ("# Proceed with export").
        app.make_response = lambda value: answer("went on" if value is None else value)  # type: ignore[method-assign]
        pages = {name: name for name in ("dashboard_v2.html", "analytics_beta.html")}
        for name in ("dashboard.html", "app.html"):
            pages[name] = f"{{% if feature_flags is defined %}}{self.template}{{% else %}}{name}{{% endif %}}"
        app.jinja_loader = jinja2.DictLoader(pages)
        return app

    def run(self, name: str, text: str) -> dict[str, Any]:
        """What comes of one snippet."""
        tree = tree_of(text)
        app = self.names["app"] = self.new_app()
        if isinstance(tree.body[0], ast.Expr) and isinstance(tree.body[0].value, ast.Dict):
            said = eval(compile(ast.Expression(tree.body[0].value), name, "eval"), self.names)
            return self.in_request(app, name, lambda: given(said, name) or {}) | {"data": said}
        if all(isinstance(node, (ast.ImportFrom, ast.FunctionDef, ast.ClassDef)) for node in tree.body):
            exec(compile(tree, name, "exec"), self.names)
            return self.defined(app, name, tree)
        exec(compile(in_function(tree), name, "exec"), self.names)
        return self.in_request(app, name, self.names["view"])

    def in_request(self, app: flask.Flask, name: str, code: Any) -> dict[str, Any]:
        """Runs code in a request, and says something at its end."""
        found: dict[str, Any] = {}

        @app.get("/dashboard")
        def dashboard() -> Any:
            self.names["user"] = flask_login.current_user._get_current_object()
            result = code()
            facades.track_event(name, "afterwards")
            if not isinstance(result, dict):
                return result
            found.update({key: each for key, each in result.items() if is_json(each)})
            return ""

        return {"person": self.visit(app, "/dashboard", name), "names": found}

    def defined(self, app: flask.Flask, name: str, tree: ast.Module) -> dict[str, Any]:
        """Uses what a snippet defined: routes, a view of Django's kind, a test, a class of flags."""
        found: dict[str, Any] = {}
        routes = [rule.rule for rule in app.url_map.iter_rules() if rule.endpoint != "static"]
        for route in routes:
            found |= {"person": self.visit(app, route, name), "nobody": self.visit(app, route)}
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                found |= self.in_request(app, name, partial(self.ask_all, self.names[node.name], name))
            elif isinstance(node, ast.FunctionDef) and not routes:
                found |= self.in_request(app, name, partial(self.call, self.names[node.name], name))
        return found

    def ask_all(self, flag_class: Any, name: str) -> dict[str, Any]:
        """Every member of a class of flags, asked for."""
        members = {key: each for key, each in vars(flag_class).items() if key.isupper()}
        return {key: facades.get_feature_flag(name, each) for key, each in members.items()}

    def call(self, function: Any, name: str) -> dict[str, Any]:
        """A view with its request, or a test, which changes nothing that lasts."""
        before = facades.get_feature_flag
        if function.__code__.co_argcount:
            team = types.SimpleNamespace(slug="acme")
            # As its middleware would: the team's key is declared once.
            facades.group_identify("team", team.slug)
            function(types.SimpleNamespace(user=self.names["user"], team=team))
        else:
            function()
        return {"restored": facades.get_feature_flag is before}

    def visit(self, app: flask.Flask, path: str, name: str = "") -> list[Any]:
        """Status and text of a page, for somebody or for nobody."""
        client = app.test_client()
        if name:
            with client.session_transaction(base_url=SITE) as session:
                session.update(_user_id=name, _fresh=True)
        try:
            response = client.get(path, base_url=SITE, headers={"User-Agent": CHROME})
            said = re.search("<p>(.*)</p>", response.text) if response.status_code >= 400 else None
            return [response.status_code, said[1] if said is not None else response.text]
        except AttributeError as error:
            return [500, str(error)]


def given(said: dict[str, Any], name: str) -> None:
    """Data of a document, through the call that takes it."""
    if "$set" in said:
        facades.identify_user(name, said)
    elif "group_type" in said:
        facades.group_identify(**said)


def is_json(value: Any) -> bool:
    """Whether it can be told to the test."""
    return isinstance(value, (str, int, float, bool, list, dict, type(None)))


def main() -> None:
    """Runs all."""
    trace.set_tracer_provider(TracerProvider())
    auto.install()
    FlaskInstrumentor().instrument()
    PostHogFlaskInstrumentor().instrument()
    own = types.ModuleType(OWN)
    own.__dict__["FeatureFlags"] = FeatureFlags
    sys.modules[OWN] = own

    worlds: dict[str, World] = {}
    outcomes: dict[str, Any] = {}
    snippets = json.load(sys.stdin)
    for each in snippets:
        if each["kind"] == "template":
            worlds[each["document"]] = World(each["text"])
    for each in snippets:
        if each["kind"] == "python":
            world = worlds.setdefault(each["document"], World(""))
            outcomes[each["name"]] = world.run(each["name"], each["text"])
    otel_posthog.shutdown(60)
    json.dump({"outcomes": outcomes, "posthog_loaded": "posthog" in sys.modules}, sys.stdout)


if __name__ == "__main__":
    main()
