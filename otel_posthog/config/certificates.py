"""The files behind the lanes' TLS: which variables name them, and whether they can be used (decision 0002).

The same variables as for the standard exporters, the signal's own form before the general one. A file that cannot be
used is said at load: later it would be a queue that fills and a log line that nobody connects with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from otel_posthog.config import environment as names
from otel_posthog.config.values import text_of
from otel_posthog.errors import ConfigError
from otel_posthog.model.frozen import frozen

AUTHORITY, CLIENT_CERTIFICATE, CLIENT_KEY = names.TLS_SETTINGS


@frozen
class TlsFiles:
    """The files of one lane and the variables that name them; "" for none.

    Args:
        ca_file: PEM file, or hashed directory, of the only roots to trust.
        client_cert: PEM file of the client's certificate.
        client_key: PEM file of its key.
        sources: Setting (`CERTIFICATE`, …) -> variable that named the file.
        warning: What is set without effect; "" for nothing.
    """

    ca_file: str
    client_cert: str
    client_key: str
    sources: Mapping[str, str]
    warning: str = ""


def own_variable(environ: Mapping[str, str], signal: str, setting: str) -> str:
    """The variable of a setting that a signal's exporter reads: its own if that is set, else the general one."""
    own = names.signal_variable(signal, setting) if signal else ""
    return own if own and text_of(environ, own) else names.general_variable(setting)


def tls_files(environ: Mapping[str, str], signals: Sequence[str]) -> TlsFiles:
    """The files for an endpoint.

    Args:
        environ: The environment.
        signals: Signals whose variables count, the first with a value deciding; "" is the general form alone.
    """
    found: dict[str, str] = {}
    sources: dict[str, str] = {}
    for setting in names.TLS_SETTINGS:
        for signal in signals:
            variable = own_variable(environ, signal, setting)
            if text := text_of(environ, variable):
                found[setting], sources[setting] = text, variable
                break
    warning = ""
    if CLIENT_KEY in found and CLIENT_CERTIFICATE not in found:
        variable = sources.pop(CLIENT_KEY)
        del found[CLIENT_KEY]
        warning = f"{variable} is set without a client certificate, and so without effect"
    return TlsFiles(
        found.get(AUTHORITY, ""), found.get(CLIENT_CERTIFICATE, ""), found.get(CLIENT_KEY, ""), sources, warning
    )


def check_tls_files(files: TlsFiles) -> None:
    """Opens and reads the files as a connection would.

    Raises:
        ConfigError: One is not there, cannot be read, or holds something else; its variable is named.
    """
    if not files.sources:
        return
    # Only where there is such a file: every process with this package runs through here.
    import os
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if files.ca_file:
        variable = files.sources[AUTHORITY]
        if not os.path.isdir(files.ca_file):  # noqa: PTH112 - pathlib costs an import
            _readable(variable, files.ca_file, _ROOTS_HINT)
            try:
                context.load_verify_locations(cafile=files.ca_file)
            except (OSError, ValueError):
                raise ConfigError(
                    f"{files.ca_file!r} holds no certificates", key=variable, source="environment", hint=_ROOTS_HINT
                ) from None
    if not files.client_cert:
        return
    for setting, path in ((CLIENT_CERTIFICATE, files.client_cert), (CLIENT_KEY, files.client_key)):
        if path:
            _readable(files.sources[setting], path, _CLIENT_HINT)
    key = files.sources.get(CLIENT_KEY, "") or files.sources[CLIENT_CERTIFICATE]
    try:
        # With a password, if only an empty one, OpenSSL never asks for it on the terminal.
        context.load_cert_chain(files.client_cert, files.client_key or None, password="")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or ""
        if reason == "KEY_VALUES_MISMATCH":
            what = f"it is not the key of the certificate in {files.client_cert!r}"
        else:
            what = "certificate and key cannot be used; perhaps the key is encrypted, or one is no PEM file"
        raise ConfigError(what, key=key, source="environment", hint=_CLIENT_HINT) from None


_ROOTS_HINT = "Name a PEM file of your CA's certificates, or leave it unset for the system's roots"
_CLIENT_HINT = "Name PEM files of a certificate and its key without a passphrase, readable by this process"


def _readable(variable: str, path: str, hint: str) -> None:
    try:
        with open(path, "rb"):  # noqa: PTH123 - pathlib costs an import
            return
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(f"{path!r} cannot be read ({why})", key=variable, source="environment", hint=hint) from None
