"""Which hosts events may be sent to."""

from __future__ import annotations

import pytest

from otel_posthog.errors import ConfigError
from otel_posthog.gateway.configuration.hosts import capture_host


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://eu.i.posthog.com", "https://eu.i.posthog.com"),
        ("https://us.i.posthog.com/", "https://us.i.posthog.com"),
        ("https://eu.i.posthog.com/i", "https://eu.i.posthog.com"),
        ("https://eu.i.posthog.com/i/v1/traces", "https://eu.i.posthog.com"),
        ("https://EU.posthog.com", "https://eu.i.posthog.com"),
        ("http://localhost:8765", "http://localhost:8765"),
        ("http://127.0.0.1:8765/i", "http://127.0.0.1:8765"),
        ("http://127.1:8765", "http://127.1:8765"),
        ("http://[::1]:8765", "http://[::1]:8765"),
    ],
)
def test_posthogs_own_hosts_and_this_machine_are_let_through(text: str, host: str) -> None:
    """PostHog's regions and loopback need no further word."""
    assert capture_host(text, "host") == host


@pytest.mark.parametrize(
    ("text", "switches", "host"),
    [
        ("https://ph.example.com", {"self_hosted": True}, "https://ph.example.com"),
        ("http://posthog:8000", {"self_hosted": True, "allow_http": True}, "http://posthog:8000"),
        ("https://10.0.0.8", {"self_hosted": True}, "https://10.0.0.8"),
        ("https://169.254.7.7", {"self_hosted": True, "allow_link_local": True}, "https://169.254.7.7"),
    ],
)
def test_other_hosts_need_a_word(text: str, switches: dict[str, bool], host: str) -> None:
    """Each switch lets through what it says."""
    assert capture_host(text, "host", **switches) == host


@pytest.mark.row(40)
@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("https://ph.example.com", "is not a host of PostHog's cloud"),
        ("https://posthog.com.evil.example", "is not a host of PostHog's cloud"),
        ("https://evilposthog.com", "is not a host of PostHog's cloud"),
        ("http://eu.i.posthog.com", "over https alone"),
        ("http://ph.example.com", "is not a host of PostHog's cloud"),
        ("https://user:secret@eu.i.posthog.com", "holds a user or a password"),
        ("https://eu.i.posthog.com@evil.example", "holds a user or a password"),
        ("file:///etc/passwd", "is not known"),
        ("gopher://eu.i.posthog.com", "is not known"),
        ("ftp://eu.i.posthog.com", "is not known"),
        ("//eu.i.posthog.com", "this is no address"),
        ("eu.i.posthog.com", "the scheme is missing"),
        ("https://", "it names no host"),
        ("https://eu.i.posthog.com?key=1", "a query or a fragment"),
        ("https://eu.i.posthog.com#x", "a query or a fragment"),
        ("http://169.254.169.254", "link-local"),
        ("http://169.254.169.254.", "link-local"),
        ("https://169.254.170.2", "link-local"),
        ("http://2852039166", "link-local"),
        ("http://0xA9FEA9FE", "link-local"),
        ("http://0251.0376.0251.0376", "link-local"),
        ("http://169.254.43518", "link-local"),
        ("https://[fe80::1]", "link-local"),
        ("https://[::ffff:169.254.169.254]", "link-local"),
        ("https://[fd00:ec2::254]", "link-local"),
        ("https://metadata.google.internal", "link-local"),
        ("https://METADATA.google.internal.", "link-local"),
        ("https://100.100.100.200", "link-local"),
        ("http://0.0.0.0", "no address of a server"),
        ("https://[::]", "no address of a server"),
        ("https://224.0.0.1", "no address of a server"),
    ],
)
def test_no_way_to_what_is_not_posthogs(text: str, what: str) -> None:
    """Metadata services in every spelling, other schemes, and what hides another host are refused, with the key."""
    with pytest.raises(ConfigError) as raised:
        capture_host(text, "projects.shop.host")
    assert what in str(raised.value)
    assert "`projects.shop.host`" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_self_hosted_alone_does_not_open_the_rest() -> None:
    """Another host is one word, plain http and link-local addresses are others."""
    with pytest.raises(ConfigError, match="plain http"):
        capture_host("http://ph.example.com", "host", self_hosted=True)
    with pytest.raises(ConfigError, match="link-local"):
        capture_host("http://169.254.169.254", "host", self_hosted=True, allow_http=True)
    with pytest.raises(ConfigError, match="not a host of PostHog's cloud"):
        capture_host("https://169.254.169.254", "host", allow_link_local=True)
