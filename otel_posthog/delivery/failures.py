"""What a failed exchange means: one of our classes for whatever urllib3, http.client, ssl or a socket raised."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from otel_posthog.errors import PermanentError, RetryableError


def classify(error: BaseException, url: str = "") -> RetryableError | PermanentError:
    """Our class for what urllib3, http.client, ssl or a socket raised; the text never holds payload or secrets.

    A failed TLS check is retryable, although it looks like a wrong set-up: certificates are renewed and clocks set
    while we wait, and the data is not at fault.
    """
    from urllib3 import exceptions

    host = (urlsplit(url).hostname if url else None) or "the server"
    chain = _chain(error)

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if has(exceptions.LocationValueError, exceptions.InvalidHeader, exceptions.UnrewindableBodyError) or (
        isinstance(error, ValueError) and not isinstance(error, OSError)
    ):
        # A header value with a line break in it, a URL that is none: the same for every attempt.
        return PermanentError(f"the request to {host} cannot be sent ({type(error).__name__})")
    if has(exceptions.ProxyError):
        return RetryableError(f"the proxy on the way to {host} failed: check HTTPS_PROXY")
    if has(socket.gaierror):
        return RetryableError(f"{host} cannot be resolved to an address")
    if refused := next((link for link in chain if isinstance(link, ssl.SSLCertVerificationError)), None):
        why = getattr(refused, "verify_message", "") or "no reason given"
        mend = _MENDS.get(getattr(refused, "verify_code", 0), "check the CA file")
        return RetryableError(f"the certificate of {host} cannot be verified ({why}): {mend}")
    if has(ssl.SSLError, exceptions.SSLError):
        return RetryableError(f"TLS with {host} failed{_alert(chain)}")
    if has(ConnectionRefusedError):
        return RetryableError(f"{host} refuses connections")
    if has(TimeoutError, exceptions.TimeoutError):
        return RetryableError(f"{host} did not answer in time")
    return RetryableError(f"the connection to {host} failed ({type(chain[-1]).__name__})")


# By OpenSSL's codes: expired, not yet valid, and a name or an address that is not in it.
_MENDS = {
    10: "renew it there, or check the clock here",
    9: "check the clocks here and there",
    62: "check the host's name",
    64: "check the host's address",
}
# What servers say of a client's certificate, in OpenSSL's words; TLS 1.2 has only the last for one that is missing.
_CLIENT_ALERTS = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN")
_MISSING_BY_TLS_1_2 = "HANDSHAKE_FAILURE"


def _alert(chain: Sequence[BaseException]) -> str:
    """OpenSSL's name of what went wrong, and the way out where it is about our certificate."""
    reason = next((link.reason for link in chain if isinstance(link, ssl.SSLError) and link.reason), "")
    if "ALERT" in reason and reason.endswith((*_CLIENT_ALERTS, _MISSING_BY_TLS_1_2)):
        return f" ({reason}): check the client certificate, which the server may ask for"
    return f" ({reason})" if reason else ""


def _chain(error: BaseException) -> list[BaseException]:
    """`error` and what is behind it; urllib3 keeps that in attributes, arguments or the cause, by turns."""
    chain = [error]
    while len(chain) < 8:
        last = chain[-1]
        inner = next((item for item in last.args if isinstance(item, BaseException)), None)
        inner = inner or getattr(last, "original_error", None) or last.__cause__ or last.__context__
        if not isinstance(inner, BaseException):
            break
        chain.append(inner)
    return chain
