"""The gateway's log: one escaped line for each record, for people or for machines, and no secret in any of them.

Names and values of telemetry may reach a log line, and whoever sends them may want to forge one, or to write to the
operator's terminal: whatever is not printable is escaped, and a line has an end. That no secret is said is seen to
where lines are made; here the configured ones are taken out once more.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Final, TextIO

from otel_posthog.gateway.configuration.settings import LogSettings
from otel_posthog.observe.log import LOGGER_NAME

MAX_LINE: Final = 8_000
"""Characters of one line."""

_SHORTEST_SECRET: Final = 6
"""Characters: anything shorter is in too many innocent words."""


class LineFormatter(logging.Formatter):
    """One line for each record.

    Args:
        form: `text` or `json`.
        secrets: What must not be in any line.
        worker: Number of this worker; `None` where there is only one process.
    """

    def __init__(self, form: str, secrets: Callable[[], Iterable[str]] = tuple, *, worker: int | None = None) -> None:
        super().__init__()
        self._json = form == "json"
        self._secrets = secrets
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, without its line break."""
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - an edge: an argument whose text cannot be had costs its line alone
            message = f"{record.msg!s} ({type(error).__name__} in its arguments)"
        if record.exc_info and record.exc_info[0] is not None:
            message += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        message = self._clean(message)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        level = record.levelname.lower()
        if self._json:
            line: dict[str, object] = {"time": moment, "level": level, "logger": record.name, "message": message}
            if self._worker is not None:
                line["worker"] = self._worker
            return json.dumps(line)
        who = "" if self._worker is None else f" [{self._worker}]"
        return f"{moment} {level:<7}{who} {escaped(message)}"

    def _clean(self, message: str) -> str:
        for secret in self._secrets():
            if len(secret) >= _SHORTEST_SECRET:
                message = message.replace(secret, "…")
        return message if len(message) <= MAX_LINE else message[:MAX_LINE] + "…"


def escaped(text: str) -> str:
    """`text` in one line: what is not printable (line breaks, escape sequences, marks of direction) as an escape."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def configure_logging(
    settings: LogSettings,
    *,
    secrets: Callable[[], Iterable[str]] = tuple,
    worker: int | None = None,
    stream: TextIO | None = None,
) -> logging.Handler:
    """Sends all log lines of this process to `stream`: ours from the chosen level on, those of libraries if they warn.

    Args:
        settings: Format and level.
        secrets: What must not be in any line.
        worker: See `LineFormatter`.
        stream: Standard error by default.

    Returns:
        The handler, for whoever takes it away again.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(settings.format, secrets, worker=worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(LOGGER_NAME).setLevel(settings.level.upper())
    return handler
