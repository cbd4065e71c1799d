"""Apps written the ordinary way: who logs in is a person, with no line changed, and nobody is taken for another."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dirty_equals import IsStr

from otel_posthog.emulator.server import Emulator
from tests.attach.processes import TOKEN, Environment, Launch
from tests.attach.visitors import Visitor

ADA, GRACE = "01990000-0000-7000-8000-00000000000a", "01990000-0000-7000-8000-00000000000b"
"""What posthog-js calls two visitors before they log in."""
SESSION = "01990000-0000-7000-8000-0000000000ff"

USERS = """
default_rules: true
users:
  set:
    role: user.role
    is_staff: user.is_staff
    auth_method: login.method
    login_route: login.route
  set_once:
    first_seen: user.date_joined
  groups:
    company: user.company_id
"""


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A local PostHog."""
    with Emulator() as running:
        yield running


def variables(emulator: Emulator, where: Environment, config: Path, **more: str) -> dict[str, str]:
    """A whole process environment."""
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": "",
        "OTEL_SERVICE_NAME": "members",
        "OTEL_POSTHOG_MODE": "direct",
        "OTEL_EXPORTER_OTLP_ENDPOINT": emulator.endpoint,
        "OTEL_EXPORTER_OTLP_TOKEN": TOKEN,
        "OTEL_POSTHOG_CONFIG": str(config),
        "OTEL_METRICS_EXPORTER": "none",
        **where.variables,
        **more,
    }


def visit_all(process: Any) -> list[int]:
    """Ada signs up, comes back, breaks something and leaves; Grace signs up, leaves and logs in."""
    ada = Visitor(process, {"X-POSTHOG-DISTINCT-ID": ADA, "X-POSTHOG-SESSION-ID": SESSION})
    grace = Visitor(process, {"x-posthog-distinct-id": GRACE})
    nobody = Visitor(process)
    statuses = [ada.get("/"), ada.post("/signup", name="ada"), ada.get("/me"), nobody.get("/")]
    ada.headers = {}
    statuses += [ada.get("/fail"), ada.post("/logout"), ada.get("/")]
    statuses += [grace.get("/"), grace.post("/signup", name="grace"), grace.get("/me"), grace.post("/logout")]
    grace.headers = {}
    return [*statuses, grace.post("/login", name="nobody"), grace.post("/login", name="grace"), grace.get("/me")]


STATUSES = [200, 200, 200, 200, 500, 200, 200, 200, 200, 200, 200, 403, 200, 200]


def told(emulator: Emulator) -> list[tuple[str, str, str]]:
    """Event, path and person ("" for personless) of everything that arrived, in the order in which it happened."""
    events = sorted(emulator.events(), key=lambda event: event["timestamp"])
    return [
        (
            event["event"],
            event["properties"].get("$pathname", ""),
            "" if event["properties"].get("$process_person_profile") is False else event["distinct_id"],
        )
        for event in events
    ]


TOLD: list[tuple[str, ...]] = [
    ("$pageview", "/", ADA),
    ("$identify", "", "1"),
    ("api_request", "/signup", "1"),
    # Only the number of who logs in stands in FastAPI's session: the rest follows when the app loads the account.
    ("$set", "", "1", "loaded"),
    ("$pageview", "/me", "1"),
    ("$pageview", "/", ""),
    ("$exception", "/fail", "1"),
    ("api_request", "/fail", "1"),
    ("api_request", "/logout", "1"),
    ("$pageview", "/", ""),
    ("$pageview", "/", GRACE),
    ("$identify", "", "2"),
    ("api_request", "/signup", "2"),
    ("$set", "", "2", "loaded"),
    ("$pageview", "/me", "2"),
    ("api_request", "/logout", "2"),
    ("api_request", "/login", ""),
    ("$set", "", "2"),
    ("api_request", "/login", "2"),
    ("$set", "", "2", "loaded"),
    ("$pageview", "/me", "2"),
]
ROUTES = {
    "flask": ("signup", "login"),
    "django": ("members_django.signup", "members_django.login"),
    "django-asgi": ("members_django.signup", "members_django.login"),
    "fastapi": ("/signup", "/login"),
}


def properties_of(framework: str, *, first: bool) -> dict[str, Any]:
    """What is known of Ada, who only signed up, and of Grace, who also logged in."""
    properties: dict[str, Any] = {"login_route": ROUTES[framework][0 if first else 1]}
    if "django" in framework:
        return {**properties, "is_staff": first, "auth_method": "ModelBackend", "first_seen": IsStr}
    return {**properties, "role": "owner" if first else "member"}


def serve(framework: str, where: Environment, launch: Launch, env: dict[str, str]) -> str:
    """Lets everybody visit; gives what the server printed."""
    if "django" in framework:
        env["DJANGO_SETTINGS_MODULE"] = "members_django"
    words = ["python", "serve_members.py", framework, "{fd}", str(len(STATUSES))]
    process = launch(where.instrumented(*words), env, serve=True)
    statuses = visit_all(process)
    assert (process.end(), statuses) == (0, STATUSES), process.output
    return process.output


@pytest.mark.parametrize(
    ("framework", "name"),
    [
        ("flask", "stock"),
        ("flask", "floor"),
        ("django", "stock"),
        ("django", "floor"),
        ("django-asgi", "stock"),
        ("fastapi", "stock"),
        ("fastapi", "floor"),
    ],
)
def test_people_of_an_ordinary_app(
    framework: str,
    name: str,
    environment: Callable[[str], Environment],
    launch: Launch,
    emulator: Emulator,
    tmp_path: Path,
) -> None:
    """Two visitors of one worker become two persons by signing up; errors that a handler answers are seen, once."""
    where = environment(name)
    config = tmp_path / "bridge.yaml"
    # FastAPI has no login of its own: the app keeps the account's number in its session.
    sources = "  sources: [session.account, dependency.get_current_user]\n" if framework == "fastapi" else ""
    config.write_text(USERS + sources, encoding="utf-8")
    env = variables(emulator, where, config, MEMBERS_DATABASE=str(tmp_path / "members.sqlite3"))

    serve(framework, where, launch, env)

    assert told(emulator) == [event[:3] for event in TOLD if framework == "fastapi" or event[3:] != ("loaded",)]
    persons = sorted(emulator.persons(), key=lambda person: person["main_id"])
    assert [(person["distinct_ids"], person["properties"], person["identified"]) for person in persons] == [
        ([ADA, "1"], properties_of(framework, first=True), True),
        ([GRACE, "2"], properties_of(framework, first=False), True),
    ]
    (failure,) = emulator.events(event="$exception")
    (issue,) = failure["properties"]["$exception_list"]
    assert (issue["type"], issue["value"], issue["mechanism"]["handled"]) == (
        "ValueError",
        "no stock left",
        # Django's handler500 only draws the page: nobody caught it.
        "django" not in framework,
    )
    frame = issue["stacktrace"]["frames"][-1]
    assert (frame["function"], frame["in_app"]) == ("fail", True)
    (signed_up, _) = emulator.events(event="$identify")
    assert signed_up["properties"]["$session_id"] == SESSION
    if framework == "flask":
        assert signed_up["properties"]["$groups"] == {"company": "acme"}
    # Nothing but what was mapped: no name, no address.
    assert "example.com" not in str(emulator.events()) and "'ada'" not in str(emulator.events())


TASKS = """
rules:
  - name: tasks
    match: {kind: span, span_kind: consumer}
    capture:
      event: task run
      properties: {task: "{celery.task_name}"}
users:
  groups:
    company: user.company_id
"""


@pytest.mark.parametrize(
    ("name", "pool", "without"),
    [("stock", "solo", ""), ("stock", "prefork", ""), ("floor", "threads", ""), ("stock", "solo", "celery")],
)
def test_people_of_tasks(
    name: str,
    pool: str,
    without: str,
    environment: Callable[[str], Environment],
    launch: Launch,
    emulator: Emulator,
    tmp_path: Path,
) -> None:
    """A task is for whoever the request was for that sent it, and so are the tasks that it sends; with and without
    OpenTelemetry's own instrumentation of Celery; the next task is for somebody else, or nobody.
    """
    where = environment(name)
    config = tmp_path / "bridge.yaml"
    config.write_text(TASKS, encoding="utf-8")
    broker = tmp_path / "broker"
    broker.mkdir()
    env = variables(emulator, where, config, MEMBERS_BROKER=str(broker), OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=without)
    shop = launch(where.instrumented("python", "serve_members.py", "celery", "{fd}", "6"), env, serve=True)
    ada, grace, nobody = Visitor(shop), Visitor(shop), Visitor(shop)
    statuses = [ada.post("/login", name="ada-1"), ada.post("/order", amount="12")]
    statuses += [grace.post("/login", name="grace-2"), grace.post("/order", amount="500")]
    statuses += [nobody.post("/try"), ada.post("/order", amount="7")]
    assert (shop.end(), statuses) == (0, [200] * 6), shop.output

    words = ["celery", "-A", "members_celery:queue", "worker", "--concurrency", "1", "-P", pool, "-l", "warning"]
    worker = launch(where.instrumented(*words, "--without-gossip", "--without-mingle"), env)
    wanted = 1 if without else 9
    emulator.wait_for(lambda local: len(local.events()) >= wanted, timeout=90)
    worker.popen.send_signal(signal.SIGTERM)
    worker.end(90)

    runs = sorted(
        (event["properties"]["task"], event["distinct_id"], tuple(event["properties"]["$groups"].items()))
        if event["properties"].get("$groups")
        else (event["properties"]["task"], "", ())
        for event in emulator.events(event="task run")
    )
    ada_s, grace_s = (("company", "company-ada-1"),), (("company", "company-grace-2"),)
    expected = [
        (f"members_celery.{task}", person, groups)
        for task in ("charge", "receipt")
        for person, groups in [("", ()), ("ada-1", ada_s), ("ada-1", ada_s), ("grace-2", grace_s)]
    ]
    assert runs == ([] if without else expected), worker.output
    (declined,) = emulator.events(event="$exception")
    assert (declined["distinct_id"], declined["properties"]["$groups"]) == ("grace-2", dict(grace_s))
    assert declined["properties"]["$exception_list"][0]["value"] == "card declined"


def test_left_out_by_the_standard_variable(
    environment: Callable[[str], Environment], launch: Launch, emulator: Emulator, tmp_path: Path
) -> None:
    """`posthog_flask` among the disabled instrumentations: everything else works, and nobody is identified."""
    where = environment("stock")
    config = tmp_path / "bridge.yaml"
    config.write_text(USERS, encoding="utf-8")
    env = variables(emulator, where, config, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="posthog_flask")

    serve("flask", where, launch, env)

    events = emulator.events()
    assert {event["event"] for event in events} == {"$pageview", "api_request"}
    assert {person for _, _, person in told(emulator)} == {ADA, GRACE, ""}
