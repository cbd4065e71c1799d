"""`$current_url` and its companions from old and new HTTP conventions; nothing leaks that should not."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert.request_context import has_request, request_properties
from otel_posthog.convert.user_agent import UserAgents

AGENTS = UserAgents()


def request(attributes: dict[str, Any], kind: str = "server", **config: bool) -> dict[str, Any]:
    """The request properties of `attributes`."""
    return request_properties(attributes, kind, ConvertConfig(**config), AGENTS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attributes", "url"),
    [
        ({"url.full": "https://u:secret@Shop.example.com:443/a?token=1#f"}, "https://shop.example.com/a"),
        ({"http.url": "http://localhost:5000/a?x=1"}, "http://localhost:5000/a"),
        ({"url.scheme": "https", "server.address": "h", "server.port": 443, "url.path": "/a"}, "https://h/a"),
        ({"url.scheme": "http", "server.address": "h", "server.port": 8080, "url.path": "/a"}, "http://h:8080/a"),
        (
            {"http.scheme": "http", "http.host": "h:5000", "net.host.port": 5000, "http.target": "/a?b"},
            "http://h:5000/a",
        ),
        ({"http.scheme": "http", "net.host.name": "::1", "net.host.port": 80, "http.target": "/"}, "http://[::1]/"),
        ({"url.scheme": "http", "server.address": "[::1]:81", "url.path": "/a"}, "http://[::1]:81/a"),
        ({"http.scheme": "http", "http.host": "h", "http.target": "http://evil/x?y"}, "http://h/x"),
        ({"http.scheme": "http", "http.host": "h", "http.route": "u/<int:uid>"}, "http://h/u/<int:uid>"),
        ({"http.scheme": "http", "http.host": "u:p@h", "http.target": "/a#b"}, "http://h/a"),
        ({"http.scheme": "http", "http.host": "h/evil", "http.target": "/a"}, None),
        ({"http.scheme": "gopher", "http.host": "h", "http.target": "/a"}, None),
        ({"url.path": "/a"}, None),
        ({"url.full": "http://[::1"}, None),
        ({"url.full": 7, "http.target": ["/a"]}, None),
    ],
)
def test_current_url(attributes: dict[str, Any], url: str | None) -> None:
    """Built from what is there, without query, fragment and credentials; absent where host or scheme is unknown."""
    assert request(attributes).get("$current_url") == url


@pytest.mark.parametrize("source", ["url.full", "http.url", "http.target"])
def test_no_secret_leaves(source: str) -> None:
    """A token in the query appears nowhere among the properties."""
    value = "/p?token=abc" if source == "http.target" else "https://u:abc@h/p?token=abc#abc"
    made = request({source: value, "http.scheme": "https", "http.host": "h", "url.query": "token=abc"})

    assert "abc" not in str(made)
    assert made["$pathname"] == "/p"


def test_keep_query() -> None:
    """The query stays where it was asked for; credentials still go."""
    kept = request({"url.full": "https://u:p@h/a?b=1#c"}, keep_query=True)

    assert kept["$current_url"] == "https://h/a?b=1"


def test_outgoing_calls() -> None:
    """The URL that a service calls is not the page that a person saw."""
    assert request({"url.full": "https://api/a", "http.request.method": "GET"}, "client") == {}


def test_referrer() -> None:
    """Host and page of the referrer, without query; nonsense is left out."""
    made = request({"http.request.header.referer": ["https://a.example/b?q=secret"]})

    assert made == {"$referrer": "https://a.example/b", "$referring_domain": "a.example"}
    assert request({"http.request.header.referer": "javascript:alert(1)"}) == {}


@pytest.mark.parametrize(
    ("address", "ip"), [("203.0.113.9", "203.0.113.9"), ("::1", "::1"), ("proxy", None), (7, None)]
)
def test_ip(address: object, ip: str | None) -> None:
    """The client's address only where it was asked for, and only where it is one."""
    assert request({"client.address": address}, client_ip=True).get("$ip") == ip
    assert "$ip" not in request({"client.address": address})


def test_status_and_route() -> None:
    """Method, status as a number, route."""
    made = request({"http.method": "GET", "http.status_code": 200, "http.route": "/a/<b>"})
    odd = request({"http.method": "GET", "http.status_code": "teapot"})

    assert made == {"$request_method": "GET", "http_status_code": 200, "http_route": "/a/<b>", "$pathname": "/a/<b>"}
    assert odd == {"$request_method": "GET"}


def test_has_request() -> None:
    """The quick look sees each of the telling attributes."""
    assert not has_request({"db.system": "sqlite", "server.address": "db"})
    assert has_request({"url.path": "/"})
    assert has_request({"http.user_agent": "x"})


SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1"
MAC = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.1 Safari/605.1.15"
)
CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0"


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36", ("Chrome", "Windows", "Desktop")),
        ("Mozilla/5.0 (X11; Ubuntu; Linux; rv:121.0) Gecko/20100101 Firefox/121.0", ("Firefox", "Linux", "Desktop")),
        (f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) {SAFARI}", ("Mobile Safari", "iOS", "Mobile")),
        (f"Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) {SAFARI}", ("Mobile Safari", "iOS", "Tablet")),
        (f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {CHROME} Mobile Safari/537.36", ("Chrome", "Android", "Mobile")),
        (f"Mozilla/5.0 (Linux; Android 13; SM-X906C) {CHROME} Safari/537.36", ("Chrome", "Android", "Tablet")),
        (f"Mozilla/5.0 (Windows NT 10.0) {CHROME} Safari/537.36 Edg/120.0", ("Microsoft Edge", "Windows", "Desktop")),
        (f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {CHROME} Safari/537.36", ("Chrome", "Chrome OS", "Desktop")),
        (MAC, ("Safari", "Mac OS X", "Desktop")),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", ("Googlebot", None, None)),
        ("curl/8.4.0", ("curl", None, None)),
        ("\x00" * 50, (None, None, None)),
        ("x" * 100_000, (None, None, None)),
    ],
)  # fmt: skip
def test_user_agents(agent: str, expected: tuple[str | None, ...]) -> None:
    """Spelled as posthog-js spells them; what is no person's browser has no device type."""
    made = request({"user_agent.original": agent})

    assert tuple(made.get(name) for name in ("$browser", "$os", "$device_type")) == expected
    assert len(made["$raw_user_agent"]) <= 1_000


def test_warming_leaves_nothing_to_compile() -> None:
    """A server that warmed the matchers compiles none of them for an event, and one that did not compiles many."""
    script = """
import re, sys
from otel_posthog.convert.user_agent import UserAgents, warm_user_agents
if sys.argv[1] == "warm":
    warm_user_agents()
import ua_parser
ua_parser.load_lazy_builtins()
made, compiled = re.compile, []
re.compile = lambda *args, **more: compiled.append(args) or made(*args, **more)
UserAgents().read("curl/8.4.0")
UserAgents().read("Mozilla/5.0 (Windows NT 10.0) Chrome/120.0 Safari/537.36")
print(len(compiled))
"""
    warm, cold = (
        int(subprocess.run([sys.executable, "-c", script, how], check=True, capture_output=True, timeout=60).stdout)
        for how in ("warm", "cold")
    )
    assert warm == 0 < cold
