"""`OTEL_EXPORTER_OTLP_HEADERS` and credentials: parsed by the SDK's rules, but never printed.

The SDK's own `parse_env_headers` logs what it cannot read, key and all; hence this mirror of it, which a test compares.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

from otel_posthog.config.settings import Secret
from otel_posthog.model.frozen import frozen

# Patterns, not compiled ones: most processes set no headers, and `re` remembers those that are used.
_DELIMITER = r"[ \t]*,[ \t]*"
_BLANKS = r"[ \t]*"
_KEY = r"[\x21\x23-\x27\x2a\x2b\x2d\x2e\x30-\x39\x41-\x5a\x5e-\x7a\x7c\x7e]+"
_VALUE = r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"
_LIBERAL_VALUE = r"[\x20\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"
_ENTRY = rf"{_BLANKS}{_KEY}{_BLANKS}={_BLANKS}{_VALUE}{_BLANKS}"
_LIBERAL_ENTRY = rf"{_BLANKS}{_KEY}{_BLANKS}={_BLANKS}{_LIBERAL_VALUE}{_BLANKS}"

# What a request is framed with is its sender's own affair.
FRAMING = frozenset({"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection"})


def parse_headers(text: str) -> dict[str, str]:
    """Reads a headers variable as the SDK's exporters do (liberal form): lower-case names, values percent-decoded.

    Entries that cannot be read are left out, as the SDK leaves them out.

    See the OTLP exporter specification, "Specifying headers via environment variables".
    """
    headers: dict[str, str] = {}
    for entry in re.split(_DELIMITER, text) if text else ():
        stripped = entry.strip()
        if not stripped:
            continue
        if re.fullmatch(_ENTRY, stripped):
            name, value = stripped.split("=", 1)
            headers[unquote(name).strip().lower()] = unquote(value).strip()
        elif re.fullmatch(_LIBERAL_ENTRY, stripped):
            name, value = stripped.split("=", 1)
            headers[name.strip().lower()] = value.strip()
    return headers


def with_authorization(text: str, authorization: str) -> str:
    """`text` with an `authorization` entry appended, every other character as it was.

    Args:
        text: A headers variable as the user wrote it; may be empty.
        authorization: The whole header value, e.g. `Bearer x`; percent-encoded here, as every SDK reads it.
    """
    kept = text.strip().rstrip(", \t")
    entry = f"authorization={quote(authorization, safe='')}"
    return f"{kept},{entry}" if kept else entry


@frozen
class Credential:
    """A token and the header that carries it.

    Args:
        token: The key alone, without a scheme.
        authorization: The header value for a Collector, in the scheme that its owner wrote.
        source: The variable or argument that it came from.
        problem: Why it cannot be used; "" where it can.
    """

    token: Secret
    authorization: Secret
    source: str
    problem: str = ""


def parse_credential(text: str, source: str, *, verbatim: bool = False) -> Credential | None:
    """Reads a token: a raw key, `Bearer key`, or `Basic base64(user:key)`; `None` where it is blank.

    Args:
        text: What the user wrote.
        source: Where.
        verbatim: It is a header's value already, so a value without a scheme is sent as it is.
    """
    stripped = text.strip()
    scheme, _, rest = stripped.partition(" ")
    rest = rest.strip()
    if not stripped or (not rest and scheme.lower() in ("bearer", "basic")):
        return None
    if scheme.lower() == "bearer":
        return Credential(Secret(rest), Secret(f"Bearer {rest}"), source)
    if scheme.lower() == "basic":
        return _basic(rest, source)
    return Credential(Secret(stripped), Secret(stripped if verbatim else f"Bearer {stripped}"), source)


def _basic(encoded: str, source: str) -> Credential:
    import base64
    import binascii

    authorization = Secret(f"Basic {encoded}")
    try:
        decoded = base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return Credential(
            Secret(encoded), authorization, source, f"the Basic value in {source} is not base64 of user:key"
        )
    user, _, password = decoded.partition(":")
    token = password.strip() or user.strip()
    problem = "" if token else f"the Basic value in {source} holds neither a user nor a key"
    return Credential(Secret(token), authorization, source, problem)


def token_problem(credential: Credential, *, direct: bool) -> str:
    """What is wrong with the shape of a token, with the way out; "" where nothing is. Never shows the token.

    PostHog checks at its edge only that a key has at most 64 bytes of ASCII, no NUL, and is no personal key; it answers
    200 to an unknown key and discards the events, so what can be known here is said here.

    Args:
        credential: The token.
        direct: It is PostHog's project API key, rather than a Collector's bearer token.
    """
    token, source = credential.token.reveal(), credential.source
    if credential.problem and (direct or not token):
        return f"{credential.problem}; write the project API key itself"
    sent = token if direct else credential.authorization.reveal()
    if token[:1] in "\"'`“”‘’" or token[-1:] in "\"'`“”‘’":
        return f"the token in {source} has quotes around it; write it without them (env files keep quotes)"
    if not sent.isascii():
        return f"the token in {source} has characters outside ASCII; copy it again from the project's settings"
    if any(ord(char) < 32 or ord(char) == 127 for char in sent):
        return f"the token in {source} holds a line break or another control character; copy it again, in one line"
    if not direct:
        return ""
    if token.startswith("phx_"):
        return (
            f"the token in {source} is a personal API key (phx_), which PostHog never takes for events; "
            "use the project API key (phc_) from Settings → Project, and revoke the other if it was shared"
        )
    if any(char.isspace() for char in token):
        return f"the token in {source} has blanks in it; write the project API key alone, without a scheme of your own"
    if len(token) > 64:
        return f"the token in {source} has {len(token)} characters, and no project API key has more than 64"
    return ""


def secrets(headers: Mapping[str, str]) -> dict[str, Secret]:
    """Headers for a request of ours: framing left out, values hidden from every repr."""
    return {name: Secret(value) for name, value in headers.items() if name not in FRAMING}
