"""Who may send: bearer tokens, several at a time, each with the name of its caller.

A token is only ever compared: it is kept as a digest, and no message, `repr` or exception carries one. Files are read
again when they change, so that a new token is good before the old one goes and a rotation loses nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from otel_posthog.config.loopback import is_loopback
from otel_posthog.errors import ConfigError
from otel_posthog.gateway.receivers.settings import Listen
from otel_posthog.model.frozen import frozen
from otel_posthog.observe import Complaints

_TOKEN: Final = re.compile(r"[!-~]+")
"""Printable ASCII without spaces: what an HTTP header can carry as it is."""
_MAX_HEADER: Final = 8192
_POLL: Final = 1.0

Signature = tuple[int, int, int]


@frozen
class TokenSource:
    """Where tokens of one caller come from; exactly one of `env` and `file`.

    Args:
        caller: The caller's name: in books and logs, and for routing to a project.
        env: Name of an environment variable that holds one token.
        file: A file with one token a line; blank lines and lines that begin with `#` are skipped.
    """

    caller: str
    env: str | None = None
    file: Path | None = None


class Credentials:
    """Which bearer tokens are good now. Safe in any thread.

    Args:
        sources: Where tokens come from; none means that nobody is asked for one.
        environ: The environment.
        monotonic: Seconds that never go back.
        complain: Says that a changed file cannot be used.

    Raises:
        ConfigError: A variable or file is missing, has no token, or one that no header can carry; or one token is
            given to two callers.
    """

    def __init__(
        self,
        sources: Sequence[TokenSource] = (),
        *,
        environ: Mapping[str, str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        complain: Complaints | None = None,
    ) -> None:
        self._sources = tuple(sources)
        self._environ = os.environ if environ is None else environ
        self._monotonic = monotonic
        self._complain = complain or Complaints()
        self._lock = threading.Lock()
        self._signatures: tuple[Signature | None, ...] = ()
        self._known: tuple[tuple[bytes, str], ...] = ()
        self._checked = monotonic()
        if self._sources:
            self._signatures = self._look()
            self._known = self._read()

    @property
    def required(self) -> bool:
        """Whether callers have to show a token."""
        return bool(self._sources)

    def caller(self, header: str | None) -> str | None:
        """The caller whose token an `Authorization` header shows.

        Every known token is compared, in a time that does not depend on where they differ.

        Args:
            header: The header's value; `None` where there is none or more than one.

        Returns:
            The caller's name, "" where no token is required, `None` where this one is no good.
        """
        if not self._sources:
            return ""
        self._poll()
        if header is None or len(header) > _MAX_HEADER:
            return None
        scheme, _, token = header.partition(" ")
        token = token.strip(" ")
        if scheme.lower() != "bearer" or _TOKEN.fullmatch(token) is None:
            return None
        shown = _digest(token)
        found: str | None = None
        for digest, caller in self._known:
            if hmac.compare_digest(digest, shown):
                found = caller
        return found

    def reload(self) -> None:
        """Reads all sources now.

        Raises:
            ConfigError: As on construction; what was known stays.
        """
        if self._sources:
            with self._lock:
                signatures = self._look()
                self._known = self._read()
                self._signatures = signatures

    def replace(self, sources: Sequence[TokenSource], environ: Mapping[str, str]) -> None:
        """Goes on with other sources: the configuration has changed.

        Args:
            sources: As on construction.
            environ: As on construction.

        Raises:
            ConfigError: As on construction; what was known stays.
        """
        with self._lock:
            other = Credentials(sources, environ=environ, monotonic=self._monotonic, complain=self._complain)
            # The known tokens first: between the two steps nobody may find that none is asked for.
            self._known, self._signatures = other._known, other._signatures
            self._environ, self._sources = other._environ, other._sources

    def _poll(self) -> None:
        now = self._monotonic()
        if now - self._checked < _POLL or not self._lock.acquire(blocking=False):
            return
        try:
            self._checked = now
            signatures = self._look()
            if signatures == self._signatures:
                return
            # Also where it cannot be read: it is said once for each change, and tried again with the next.
            self._signatures = signatures
            self._known = self._read()
        except ConfigError as error:
            self._complain.say("credentials", "%s; the tokens known so far stay good", error)
        finally:
            self._lock.release()

    def _look(self) -> tuple[Signature | None, ...]:
        return tuple(signature(source.file) for source in self._sources if source.file is not None)

    def _read(self) -> tuple[tuple[bytes, str], ...]:
        known: dict[bytes, str] = {}
        for source in self._sources:
            for token in _tokens(source, self._environ):
                owner = known.setdefault(_digest(token), source.caller)
                if owner != source.caller:
                    raise ConfigError(
                        f"a token of caller `{source.caller}` is also one of `{owner}`",
                        key=_name(source),
                        hint="Give each caller tokens of its own",
                    )
        return tuple(known.items())


def signature(path: Path) -> Signature | None:
    """What changes when a file is written or replaced; `None` where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def check_listen(
    addresses: Iterable[Listen | None],
    credentials: Credentials,
    *,
    allow_unauthenticated: bool = False,
    client_certificates: bool = False,
) -> None:
    """Refuses to take telemetry from anyone on a network who cannot say who they are.

    Args:
        addresses: Where the receivers will listen.
        credentials: What callers have to show.
        allow_unauthenticated: The operator's word that something else (a mesh, a network policy) sees to it.
        client_certificates: Whether every address asks for client certificates (mTLS).

    Raises:
        ConfigError: An address is reachable from other machines, and nobody is asked for a token.
    """
    if credentials.required or allow_unauthenticated or client_certificates:
        return
    for address in addresses:
        if address is not None and not is_loopback(address.host):
            raise ConfigError(
                "is reachable from other machines, and callers need no token",
                key="listen",
                source=str(address),
                hint="Configure tokens or client certificates, listen on 127.0.0.1, "
                "or set `allow_unauthenticated: true` where the network itself keeps strangers out",
            )


def _tokens(source: TokenSource, environ: Mapping[str, str]) -> list[str]:
    if not source.caller or (source.env is None) == (source.file is None):
        raise ConfigError("needs a caller's name and either `env` or `file`", key="tokens")
    if source.env is not None:
        value = environ.get(source.env, "").strip()
        tokens = [value] if value else []
    else:
        assert source.file is not None
        try:
            lines = source.file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            # Never the error's own text: that of a decoding error shows what could not be decoded.
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise ConfigError(f"cannot be read: {reason}", key=_name(source), hint="Write one token a line") from None
        tokens = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not tokens:
        raise ConfigError(f"has no token for caller `{source.caller}`", key=_name(source), hint="Set one")
    if not all(_TOKEN.fullmatch(token) for token in tokens):
        raise ConfigError(
            "has a token that no header can carry",
            key=_name(source),
            hint="Use letters, digits and punctuation of ASCII, without spaces",
        )
    return tokens


def _name(source: TokenSource) -> str:
    return source.env if source.env is not None else str(source.file)


def _digest(token: str) -> bytes:
    # Of one length whatever the token's, so that the comparison tells nothing about it.
    return hashlib.sha256(token.encode("ascii")).digest()
