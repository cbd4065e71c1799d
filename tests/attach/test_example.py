"""The WSGI example does what its README says."""

from __future__ import annotations

from collections.abc import Callable

from dirty_equals import IsPartialDict

from tests.attach.processes import ROOT, TOKEN, Environment, Launch, variables
from tests.attach.receiver import Receiver

DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
from app import app
assert b"".join(app({"QUERY_STRING": "ada"}, lambda *_: None)) == b"Thank you, ada.\\n"
"""


def test_one_line_beside_an_existing_provider(
    environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """Without any distribution: the event, the person and the standard span with the token all arrive."""
    where = environment("plain")
    process = launch(
        [where.python, "-c", DRIVER, str(ROOT / "examples" / "wsgi")], variables(receiver, "direct", where)
    )
    assert process.end() == 0, process.output
    assert [(event.event, event.distinct_id) for event in receiver.events()] == [("guestbook signed", "ada")]
    assert receiver.events()[0].properties == IsPartialDict({"$set": {"name": "Ada"}})
    assert [span["name"] for span in receiver.spans()] == ["sign the guestbook"]
    assert {a.headers["authorization"] for a in receiver.arrivals("/i/v1/traces")} == {f"Bearer {TOKEN}"}
