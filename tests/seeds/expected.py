"""What each snippet must give, in each state of PostHog's flags; whole, but for what every event of a request carries.

Where the documents' own code gave something else, the comment says so. Keys are `document:line`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.seeds.extract import committed
from tests.seeds.running import EXPERIMENTS, SWITCHES

Event = tuple[str, dict[str, Any]]
_TEMPLATES = {each.document.split()[1]: each.text for each in committed() if each.kind == "template"}

FORBIDDEN = [
    403,
    (
        "You don&#39;t have the permission to access the requested resource. It is either read-protected or not "
        "readable by the server."
    ),
]
NEEDS_SOMEBODY = [500, "'AnonymousUserMixin' object has no attribute 'id'"]
"""Views that read `current_user.id` and have no guard of their own."""
DISABLED = [503, "Exports temporarily disabled"]
WENT_ON = [200, "went on"]
CONFIG = {"theme": "dark", "enabled_widgets": ["timer"]}

USER = {"role": "admin", "is_admin": True, "last_login": "2025-10-20T10:30:00", "auth_method": "oidc"}
USER_ONCE = {"first_login": "2025-01-01T12:00:00", "signup_method": "local"}
INSTALLATION = {
    "current_version": "3.0.0",
    "current_platform": "Linux",
    "environment": "production",
    "deployment_method": "docker",
    "timezone": "Europe/Berlin",
}


@dataclass(frozen=True)
class Outcome:
    """What comes of a snippet.

    Args:
        person: Status and text of the page that somebody logged in gets.
        nobody: The same for nobody; `None` where only somebody visits.
        names: The snippet's own names, or what calls of its definitions gave.
        events: By name, without what they carry of the request.
        flag_calls: What PostHog is told about flags.
    """

    person: list[Any] | None = field(default_factory=lambda: [200, ""])
    nobody: list[Any] | None = None
    names: dict[str, Any] | None = field(default_factory=dict)
    events: tuple[Event, ...] = (("afterwards", {}),)
    flag_calls: tuple[tuple[str, Any], ...] = ()


NOTHING = Outcome(person=None, names=None, events=())
"""Of an import alone."""
QUIET = Outcome()


def identified(values: dict[str, Any], once: dict[str, Any]) -> dict[str, Outcome]:
    """A person with properties. The older SDK put the wrapper into `$set`; the newer has no `identify`."""
    said = Outcome(events=(("$set", {"$set": values, "$set_once": once}), ("afterwards", {})))
    return {"on": said, "off": said, "down": said}


def grouped(kind: str, key: str, values: dict[str, Any]) -> dict[str, Outcome]:
    """A group with properties, and linked to what follows; before, events carried no `$groups`."""
    groups = {"$groups": {kind: key}}
    update = {**groups, "$group_type": kind, "$group_key": key, "$group_set": values}
    said = Outcome(events=(("$groupidentify", update), ("afterwards", groups)))
    return {"on": said, "off": said, "down": said}


def stamped(flag: str, value: bool) -> tuple[Event, ...]:
    """What follows a question about a flag carries its answer."""
    return (("afterwards", {f"$feature/{flag}": value, "$active_feature_flags": [flag] if value else []}),)


def asked(
    flag: str,
    on: list[Any] | None = None,
    off: list[Any] | None = None,
    *,
    name: str = "",
) -> dict[str, Outcome]:
    """A question whose answer decides, and is told to PostHog once; no answer is `False`."""
    page = [200, ""]

    def names(value: bool) -> dict[str, Any]:
        return {name: value} if name else {}

    return {
        "on": Outcome(on or page, None, names(True), stamped(flag, True), ((flag, True),)),
        "off": Outcome(off or page, None, names(False), stamped(flag, False), ((flag, False),)),
        "down": Outcome(off or page, None, names(False)),
    }


def guarded(text: str) -> dict[str, Outcome]:
    """A view behind a flag. The gate of the original could not open: everybody got 403."""
    return {
        "on": Outcome([200, text], FORBIDDEN, None, (), (("beta-features", True),)),
        "off": Outcome(FORBIDDEN, FORBIDDEN, None, (), (("beta-features", False),)),
        "down": Outcome(FORBIDDEN, FORBIDDEN, None, ()),
    }


def page(document: str, state: str) -> list[Any]:
    """A page with flags. Variants are kept, where the original made switches of them."""
    on = state == "on"
    values: dict[str, Any] = dict.fromkeys((*SWITCHES, "dashboard-config"), on)
    values |= dict.fromkeys(EXPERIMENTS, "variant-b" if on else "control")
    said = json.dumps({} if state == "down" else values, sort_keys=True)
    return [200, _TEMPLATES[document].replace("{{ feature_flags|tojson }}", said)]


def experiments() -> dict[str, Outcome]:
    """Flags with variants alone."""

    def which(found: dict[str, str]) -> Outcome:
        return Outcome(names={"experiments": found})

    return {
        "on": which(dict.fromkeys(EXPERIMENTS, "variant-b")),
        "off": which(dict.fromkeys(EXPERIMENTS, "control")),
        "down": which({}),
    }


_TEAM = {"$groups": {"team": "acme"}}
_ACTION = Outcome(
    # `$groups` comes from the team that the request declared; the original sent none, and another key than the
    # browser's.
    names={"restored": True},
    events=(("action_completed", {**_TEAM, "team_slug": "acme", "relevant_property": 42}), ("afterwards", _TEAM)),
)
_INTERACTION = Outcome(
    events=(
        ("afterwards", {}),
        (
            "feature_interaction",
            {
                "export_type": "csv",
                "rows": 100,
                "feature_flag": "new-dashboard",
                "action": "clicked_export_button",
            },
        ),
    )
)
_EXPORTS = "enable-exports"
_SAME = ("on", "off", "down")

EXPECTED: dict[str, dict[str, Outcome]] = {
    "PostHog-Enhancements:122": identified(USER, USER_ONCE),
    "PostHog-Enhancements:137": identified(
        INSTALLATION, {"first_seen_version": "2.8.0", "first_seen_platform": "Linux"}
    ),
    "PostHog-Enhancements:164": grouped("version", "3.0.0", {"version_number": "3.0.0"}),
    "PostHog-Enhancements:172": grouped("platform", "Linux", {"platform_name": "Linux"}),
    "PostHog-Enhancements:191": dict.fromkeys(_SAME, QUIET),
    "PostHog-Enhancements:203": dict.fromkeys(_SAME, QUIET),
    "PostHog-Enhancements:236": dict.fromkeys(_SAME, NOTHING),
    "PostHog-Enhancements:238": asked("new-dashboard", [200, "dashboard_v2.html"]),
    "PostHog-Enhancements:242": guarded("Beta!"),
    "PostHog-Enhancements:248": {state: Outcome(page("Enhancements", state)) for state in _SAME},
    "PostHog-Enhancements:337": asked("new-timer-ui"),
    "PostHog-Enhancements:344": experiments(),
    # An answer of False beats `default=True`: the original's `… or default` could never fire.
    "PostHog-Enhancements:351": {
        "on": Outcome(events=stamped(_EXPORTS, True), flag_calls=((_EXPORTS, True),)),
        "off": Outcome(DISABLED, events=(), flag_calls=((_EXPORTS, False),)),
        "down": QUIET,
    },
    # Without an answer `.get` of the original's None raised.
    "PostHog-Enhancements:356": {
        "on": Outcome(names={"config": CONFIG, "theme": "dark", "widgets": ["timer"]}),
        "off": Outcome(names={"config": {}, "theme": "light", "widgets": []}),
        "down": Outcome(names={"config": {}, "theme": "light", "widgets": []}),
    },
    "PostHog-Enhancements:544": dict.fromkeys(_SAME, NOTHING),
    "PostHog-Enhancements:546": asked("new-dashboard"),
    "PostHog-Advanced:23": identified(USER, USER_ONCE),
    "PostHog-Advanced:48": identified(
        {**INSTALLATION, "auth_method": "oidc", "last_seen": "2025-10-20 10:30:00"},
        {"first_seen_platform": "Linux", "first_seen_python_version": "3.12.0", "first_seen_version": "2.8.0"},
    ),
    # A list stays one; PostHog overwrites it, and does not collect.
    "PostHog-Advanced:78": grouped(
        "version", "3.0.0", {"version_number": "3.0.0", "python_versions": ["3.12.0", "3.11.5"]}
    ),
    "PostHog-Advanced:90": grouped("platform", "Linux", {"platform_name": "Linux", "platform_release": "5.15.0"}),
    "PostHog-Advanced:112": asked("new-dashboard", [200, "dashboard_v2.html"], [200, "dashboard.html"]),
    "PostHog-Advanced:125": guarded("analytics_beta.html"),
    "PostHog-Advanced:138": {
        "on": Outcome(names={"config": CONFIG, "theme": "dark", "widgets": ["timer"]}),
        "off": Outcome(names={"config": {}}),
        "down": Outcome(names={"config": {}}),
    },
    "PostHog-Advanced:151": {state: Outcome(page("Advanced", state), NEEDS_SOMEBODY, None, ()) for state in _SAME},
    "PostHog-Advanced:176": asked("advanced-reports"),
    "PostHog-Advanced:188": experiments(),
    "PostHog-Advanced:201": dict.fromkeys(_SAME, _INTERACTION),
    "PostHog-Advanced:368": {  # as 351 of the other document
        "on": Outcome(WENT_ON, NEEDS_SOMEBODY, None, (), ((_EXPORTS, True),)),
        "off": Outcome(DISABLED, NEEDS_SOMEBODY, None, (), ((_EXPORTS, False),)),
        "down": Outcome(WENT_ON, NEEDS_SOMEBODY, None, ()),
    },
    "PostHog-Advanced:389": asked("my-new-feature", name="MY_NEW_FEATURE"),
    "PostHog-Advanced:397": asked("risky-feature"),
    "PostHog-Advanced:412": dict.fromkeys(_SAME, Outcome(names={"restored": True})),
    "PostHog-Analytics:228": dict.fromkeys(_SAME, _ACTION),
}
