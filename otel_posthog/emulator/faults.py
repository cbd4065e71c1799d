"""Scripted faults: what the emulator does wrong on purpose, when, and how often.

A script is a list of faults, or `{"seed": 7, "faults": […]}`. For each request the first fault that matches and still
has a turn is applied; all others stay untouched.

    {"path": "/batch*", "count": 2, "action": "status", "status": 503, "retry_after": 1}
"""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

from otel_posthog.errors import ConfigError

ACTIONS: dict[str, str] = {
    "delay": "answer as usual, `delay` seconds later",
    "status": "answer `status` without storing; with `store` the events are stored all the same",
    "verdict": "v1: give events whose name matches `event` the verdict `result` with `details`; only `ok` and "
    "`warning` are stored. v0 has no verdicts and answers as usual",
    "lose_answer": "store, then cut the connection without an answer",
    "cut": "cut the connection without storing",
    "hang": "neither store nor answer until the client gives up",
    "html": "200 with an HTML page, nothing stored: a proxy's login page",
    "redirect": "`status` (default 302) to `location`, nothing stored",
    "truncate": "store, then answer with half of the body and cut the connection",
    "drip": "store, then answer one byte every 1 / `bytes_per_second` seconds",
    "garbage": "store, then answer 200 with JSON that means nothing",
    "quota": "the project is over its billing quota: v0 200 as usual, v1 `drop` with `billing_limit_exceeded`, "
    "flags 200 with `quotaLimited` and no flag, flag definitions 402",
    "flag_errors": "flags whose key matches `flag` come back as failed, with `errorsWhileComputingFlags`",
}
_PROCESSED = frozenset(
    {"delay", "verdict", "lose_answer", "truncate", "drip", "garbage", "quota", "flag_errors"},
)
_NO_VERDICT_STORE = frozenset({"ok", "warning"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One scripted fault.

    Args:
        action: One of `ACTIONS`.
        path: Glob over the request path.
        skip: Matching requests that pass before the first turn.
        count: Turns at the most; None for no end.
        probability: Chance of a turn for each matching request, drawn from the script's seed.
        status: HTTP status of `status` and `redirect`.
        retry_after: Value of `Retry-After`, seconds or an HTTP date; None for no header.
        body: Text of the answer of `status`.
        store: `status` stores first.
        delay: Seconds before anything else; any action takes it.
        event: `verdict`: glob over event names.
        result: `verdict`: `ok`, `warning`, `drop`, `retry` or something unknown.
        details: `verdict`: `details` of the answer.
        flag: `flag_errors`: glob over flag keys.
        location: `redirect`: where to.
        bytes_per_second: `drip`: pace.

    Raises:
        ConfigError: A value makes no sense; the message names the key.
    """

    action: str
    path: str = "*"
    skip: int = 0
    count: int | None = None
    probability: float = 1.0
    status: int = 0
    retry_after: str | float | None = None
    body: str = ""
    store: bool = False
    delay: float = 0.0
    event: str = "*"
    result: str = "retry"
    details: str = "not_persisted"
    flag: str = "*"
    location: str = "https://example.com/"
    bytes_per_second: float = 1.0

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ConfigError(
                f"no such action `{self.action}`", key="action", hint=f"Choose one of {', '.join(ACTIONS)}"
            )
        if self.action == "status" and not 200 <= self.status <= 599:
            raise ConfigError("must be 200 to 599", key="status", hint='Write e.g. "status": 503')
        if self.action == "redirect":
            object.__setattr__(self, "status", self.status or 302)
        for key, low, high in (("probability", 0.0, 1.0), ("delay", 0.0, 3600.0), ("bytes_per_second", 1e-3, 1e9)):
            if not low <= getattr(self, key) <= high:
                raise ConfigError(f"must be {low:g} to {high:g}", key=key)
        for key in ("skip", "count"):
            if getattr(self, key) is not None and getattr(self, key) < 0:
                raise ConfigError("must not be negative", key=key)

    @property
    def stores(self) -> bool:
        """Whether the request is processed before the fault shows."""
        return self.action in _PROCESSED or self.store

    def keeps(self, result: str) -> bool:
        """Whether an event with this verdict is stored."""
        return result in _NO_VERDICT_STORE


def parse_script(document: Any, *, source: str = "") -> tuple[list[Fault], int]:
    """Faults and seed of a script.

    Args:
        document: Decoded JSON.
        source: Where it came from, for messages.

    Raises:
        ConfigError: With the key at fault.
    """
    seed: Any = 0
    listed: Any = document
    if isinstance(document, dict):
        root = cast("dict[str, Any]", document)
        unknown = sorted(set(root) - {"seed", "faults"})
        if unknown:
            raise ConfigError("no such key", key=unknown[0], source=source, hint="Write `seed` and `faults`")
        seed, listed = root.get("seed", 0), root.get("faults")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ConfigError("must be an integer", key="seed", source=source)
    if not isinstance(listed, list):
        raise ConfigError("must be a list of faults", key="faults", source=source)
    return [_fault(item, f"faults[{index}]", source) for index, item in enumerate(cast("list[Any]", listed))], seed


def _fault(item: Any, where: str, source: str) -> Fault:
    if not isinstance(item, dict):
        raise ConfigError("must be an object", key=where, source=source)
    given = cast("dict[str, Any]", item)
    fields = {field.name: field for field in dataclasses.fields(Fault)}
    for key, value in given.items():
        if key not in fields:
            raise ConfigError("no such key", key=f"{where}.{key}", source=source, hint=f"Known: {', '.join(fields)}")
        if not _fits(value, fields[key]):
            raise ConfigError(f"has the wrong type ({type(value).__name__})", key=f"{where}.{key}", source=source)
    if "action" not in given:
        raise ConfigError("is missing", key=f"{where}.action", source=source, hint=f"One of {', '.join(ACTIONS)}")
    try:
        return Fault(**given)
    except ConfigError as error:
        raise ConfigError(_message(error), key=f"{where}.{error.key}", source=source, hint=error.hint) from None


def _message(error: ConfigError) -> str:
    return str(error).split(": ", 1)[-1].removesuffix(f". {error.hint}")


def _fits(value: Any, field: dataclasses.Field[Any]) -> bool:
    kind = str(field.type)
    if value is None:
        return "None" in kind
    if isinstance(value, bool):
        return "bool" in kind
    if isinstance(value, int):
        return "int" in kind or "float" in kind
    if isinstance(value, float):
        return "float" in kind
    return isinstance(value, str) and "str" in kind


class FaultPlan:
    """The script in force. Safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._seen: list[int] = []
        self._applied: list[int] = []
        self._random = random.Random(0)

    def set(self, faults: Sequence[Fault], *, seed: int = 0) -> None:
        """Replaces the script; counts start anew."""
        with self._lock:
            self._faults = list(faults)
            self._seen = [0] * len(faults)
            self._applied = [0] * len(faults)
            self._random = random.Random(seed)

    def take(self, path: str) -> Fault | None:
        """The fault for a request to `path`, whose turn is thereby used."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                if not fnmatchcase(path, fault.path):
                    continue
                if fault.count is not None and self._applied[index] >= fault.count:
                    continue
                self._seen[index] += 1
                if self._seen[index] <= fault.skip:
                    continue
                if fault.probability < 1 and self._random.random() >= fault.probability:
                    continue
                self._applied[index] += 1
                return fault
        return None

    def report(self) -> list[Mapping[str, Any]]:
        """Each fault with how often it was applied."""
        with self._lock:
            return [
                {**dataclasses.asdict(fault), "applied": applied}
                for fault, applied in zip(self._faults, self._applied, strict=True)
            ]
