"""Every exception of this package, classified once, where it is born.

    OtelPosthogError
    ├── ConfigError              bad setting, bad rules file: raised at load, never later
    │   └── RulesError           a rules file, with file, line and key
    ├── SignalError              one input item that can never be converted
    └── DeliveryError            what a transport or a wire codec says about one attempt
        ├── PermanentError       the same bytes will always be refused
        │   ├── BatchRefusedError    one member is at fault, or it is too large: halve it
        │   ├── CredentialError      the key or token is refused, whatever the data
        │   └── ProtocolAbsentError  the host does not speak this wire protocol
        ├── RetryableError       a later attempt may succeed
        │   ├── ThrottledError   the server asks for a pause of at least `delay` seconds
        │   └── MisdirectedError what answers is not the server that was meant
        └── ShuttingDownError    we stopped; nothing is known about the data

    UserWarning
    └── InternalErrorWarning     in the tests of an app: a failure of ours that production counts and swallows

Callers ask for the class, never for a status code: status tables belong to the wire codecs.
"""

from __future__ import annotations


class OtelPosthogError(Exception):
    """Base of all errors that this package raises on purpose."""


class ConfigError(OtelPosthogError):
    """A setting is wrong; the message names the key, where it came from and the way out.

    Args:
        message: What is wrong.
        key: The environment variable, argument or dotted key at fault.
        source: Where the value came from, e.g. `environment` or a file name.
        hint: What to do about it.
    """

    def __init__(self, message: str, *, key: str = "", source: str = "", hint: str = "") -> None:
        self.key = key
        self.source = source
        self.hint = hint
        where = f"`{key}`" if key else ""
        if source:
            where = f"{where} ({source})" if where else source
        text = f"{where}: {message}" if where else message
        super().__init__(f"{text}. {hint}" if hint else text)


class RulesError(ConfigError):
    """A rules file cannot be used.

    Args:
        message: What is wrong.
        file: Path of the file as the user wrote it.
        line: 1-based line, 0 where the format has none.
        key: Path to the offending key, e.g. `rules[2].capture.event`.
        hint: What to do about it.
    """

    def __init__(self, message: str, *, file: str = "", line: int = 0, key: str = "", hint: str = "") -> None:
        self.file = file
        self.line = line
        source = f"{file}:{line}" if line else file
        super().__init__(message, key=key, source=source, hint=hint)


class SignalError(OtelPosthogError):
    """One input item can never be converted."""


class DeliveryError(OtelPosthogError):
    """One attempt to deliver failed."""


class PermanentError(DeliveryError):
    """The same bytes will always be refused: do not send them again."""


class BatchRefusedError(PermanentError):
    """The batch was refused as a whole: one of its members is at fault, or it is too large. Halves may pass."""


class CredentialError(PermanentError):
    """The server refuses the key or token; the data is not at fault."""


class ProtocolAbsentError(PermanentError):
    """The host does not speak this wire protocol; another one may work."""


class RetryableError(DeliveryError):
    """A later attempt with the same bytes may succeed."""


class ThrottledError(RetryableError):
    """The server asks for a pause.

    Args:
        message: What the server said.
        delay: Seconds to wait at the least; 0 where it named none.
    """

    def __init__(self, message: str, *, delay: float = 0.0) -> None:
        self.delay = delay
        super().__init__(message)


class MisdirectedError(RetryableError):
    """What answers is not the server that was meant: a web page, a redirect, no such path. An operator has to look."""


class ShuttingDownError(DeliveryError):
    """We are stopping: nothing was decided about the data."""


class InternalErrorWarning(UserWarning):
    """A failure inside of this package, told to those who run tests; the code under test is not at fault."""
