"""Threads that outlive the request that started them, in a real process with the real instrumentation of threads."""

from __future__ import annotations

from collections.abc import Callable

from tests.attach.processes import Environment, Launch, variables
from tests.attach.receiver import Receiver

SESSIONS = {
    user: f"01990000-0000-7000-8000-00000000000{number}" for number, user in enumerate(("ada", "bob", "eve", "joe"))
}
VISITS = [
    ("/start", "ada"),
    ("/job?how=named&user=bob", "bob"),
    ("/nobody", "joe"),
    ("/job?how=identified&user=eve", "eve"),
    ("/job?how=identified&user=bob", "bob"),
]


def test_threads_of_the_first_request(
    environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """Its work is its person's after the answer, a worker's is whoever's it is; the boot code.s person is nobody's."""
    where = environment("stock")
    quiet = {"OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}
    env = variables(receiver, "direct", where, **quiet)
    process = launch(where.instrumented("python", "outliving.py", "{fd}", str(len(VISITS))), env, serve=True)
    for path, user in VISITS:
        assert process.get(path, {"x-posthog-session-id": SESSIONS[user]}) == 200
    assert process.end(90) == 0, process.output

    users = {session: user for user, session in SESSIONS.items()}
    told = sorted(
        (
            event.event,
            "" if event.properties.get("$process_person_profile") is False else event.distinct_id,
            users.get(event.properties.get("$session_id", ""), ""),
            event.properties.get("$pathname", ""),
            event.properties.get("$groups", {}).get("company", ""),
        )
        for event in receiver.events()
        if not event.event.startswith(("$pageview", "api_request"))
    )
    assert told == [
        ("booted", "deployer", "", "", ""),
        ("job identified", "bob", "", "", ""),
        ("job identified", "eve", "", "", ""),
        ("job named", "bob", "", "", ""),
        ("mail sent", "ada", "ada", "/start", "acme"),
        ("pooled", "ada", "ada", "/start", "acme"),
        ("pooled", "bob", "bob", "/job", ""),
        ("pooled", "bob", "bob", "/job", ""),
        ("pooled", "eve", "eve", "/job", ""),
        ("receipt filed", "ada", "ada", "/start", "acme"),
        ("seen", "", "joe", "/nobody", ""),
    ], process.output
