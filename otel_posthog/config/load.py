"""`load_settings`: from arguments and the environment to one frozen `Settings`, the gate's answer included.

It runs in every process that has this package installed, also where everything stays off: standard library only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from otel_posthog.config import browser, flags
from otel_posthog.config import environment as names
from otel_posthog.config.environment import OURS, Variable
from otel_posthog.config.gate import endpoint_check, instrumentation_check, sdk_check, switch_check, token_checks
from otel_posthog.config.headers import Credential
from otel_posthog.config.lanes import Plan, find_credential, lane_for, plan_lanes, standard_warnings
from otel_posthog.config.settings import (
    BrowserConfig,
    ConvertConfig,
    DeliveryConfig,
    FlagsConfig,
    GateCheck,
    IdentityConfig,
    Lane,
    Mode,
    RulesConfig,
    Settings,
)
from otel_posthog.config.values import parse, text_of
from otel_posthog.errors import ConfigError

DEFAULT = "default"
SINKS = "console, memory, file:PATH, both"

_SECTIONS: Mapping[str, Callable[..., Any]] = {
    "delivery": DeliveryConfig,
    "convert": ConvertConfig,
    "identity": IdentityConfig,
    "rules": RulesConfig,
    "flags": FlagsConfig,
    "browser": BrowserConfig,
}
_SHARED = ("identity.baggage_hosts", "identity.baggage_secrets", "identity.baggage_secret_file")
_RULES_TABLE = r"""(?m)^\s*\[{1,2}\s*tool\s*\.\s*["']?otel_posthog["']?\s*[.\]]"""


def load_settings(
    environ: Mapping[str, str] | None = None,
    *,
    endpoint: str | None = None,
    token: str | None = None,
    directory: str = ".",
    **arguments: object,
) -> Settings:
    """Reads every setting and answers the gate.

    An argument beats the environment, which beats the default; blank means unset. While the gate is shut nothing is
    raised: what is wrong with other settings is then in `Settings.warnings`.

    Args:
        environ: The environment; the process's own by default.
        endpoint: As `OTEL_EXPORTER_OTLP_ENDPOINT`, for plain code and declarative configuration.
        token: As `OTEL_EXPORTER_OTLP_TOKEN`.
        directory: Where a `pyproject.toml` with `[tool.otel_posthog]` is looked for.
        **arguments: Settings by the variable's name without `OTEL_POSTHOG_`, in lower case; `None` is not given.

    Raises:
        ConfigError: The gate is open, or would be, and a setting is wrong.
    """
    environment = os.environ if environ is None else environ
    reader = _Reader(environment, arguments)
    mode = Mode(reader.values["lane.mode"]) if "lane.mode" in reader.values else None
    sinks, both = _sinks(reader)
    plan = plan_lanes(environment, endpoint, mode, both=both)
    credential = find_credential(environment, token, plan)
    checks = _checks(environment, reader, plan, credential, endpoint is not None)
    errors = [*plan.errors, *reader.errors]
    enabled = all(check.passed for check in checks)
    lane: Lane | None = None
    also: Lane | None = None
    warnings: list[str] = []
    if enabled and credential and not errors:
        # The lanes can still be wrong, and then say so by a ConfigError of their own.
        lane, also, warnings = _lanes(environment, plan, credential)
    if enabled and errors:
        raise errors[0]
    if enabled:
        _find_rules(reader, directory)
        warnings.extend(standard_warnings(environment, plan))
    warnings.extend(str(error) for error in errors)
    warnings.extend(_unknown(environment))
    return Settings(
        enabled=enabled,
        checks=checks,
        lane=lane,
        also=also,
        sinks=sinks,
        traces_mode=plan.standard_mode(environment, "traces") if enabled else None,
        logs_mode=plan.standard_mode(environment, "logs") if enabled else None,
        record_unsampled=reader.values.get("record_unsampled", "all"),
        delivery=reader.section("delivery"),
        convert=reader.section("convert"),
        identity=reader.section("identity"),
        rules=reader.section("rules"),
        flags=reader.section("flags"),
        browser=reader.section("browser"),
        sources={
            **reader.sources,
            "lane.url": plan.lane_endpoint.source if plan.lane_endpoint else "",
            "lane.token": credential.source if credential else "",
            "lane.mode": reader.sources["lane.mode"]
            if mode or not plan.lane_endpoint
            else f"endpoint ({plan.lane_endpoint.source})",
        },
        warnings=tuple(dict.fromkeys(warnings)),
    )


class _Reader:
    """Reads our own variables and arguments once, keeping what each was decided by and what was wrong."""

    def __init__(self, environ: Mapping[str, str], arguments: Mapping[str, object]) -> None:
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.errors: list[ConfigError] = []
        given = {name: value for name, value in arguments.items() if value is not None}
        for row in OURS:
            self.sources[row.setting] = DEFAULT
            if row.argument in given:
                self._take(row, given.pop(row.argument), "argument", f"argument {row.argument}")
            elif text := text_of(environ, row.name):
                self._take(row, text, "environment", row.name)
        for name in given:
            self.errors.append(_unknown_argument(name))
        self._cross_check()

    def _take(self, row: Variable, raw: object, source: str, decided_by: str) -> None:
        if isinstance(raw, str) and not raw.strip():
            return
        try:
            self.values[row.setting] = parse(row, raw, source)
        except ConfigError as error:
            self.errors.append(error)
        else:
            self.sources[row.setting] = decided_by

    def _check_baggage(self) -> None:
        if not any(path in self.values for path in _SHARED):
            return
        from otel_posthog.config.sharing import baggage_secrets, check_hosts

        try:
            if "identity.baggage_hosts" in self.values:
                check_hosts(self.values["identity.baggage_hosts"], self.sources["identity.baggage_hosts"])
            if "identity.baggage_secrets" in self.values or "identity.baggage_secret_file" in self.values:
                self.values["identity.baggage_secrets"] = baggage_secrets(
                    self.values.get("identity.baggage_secrets", ()),
                    self.values.get("identity.baggage_secret_file", ""),
                )
        except ConfigError as error:
            self.errors.append(error)

    def _cross_check(self) -> None:
        self._check_baggage()
        delivery, convert = self.section("delivery"), self.section("convert")
        if convert.max_event_bytes > delivery.batch_bytes:
            self.errors.append(
                ConfigError(
                    f"a batch of {delivery.batch_bytes:,} bytes cannot hold an event of {convert.max_event_bytes:,}",
                    key="OTEL_POSTHOG_BATCH_BYTES",
                    source=self.sources["delivery.batch_bytes"],
                    hint="Raise it, or lower OTEL_POSTHOG_MAX_EVENT_BYTES",
                )
            )
        if delivery.retry_initial > delivery.retry_max:
            self.errors.append(
                ConfigError(
                    f"the first pause of {delivery.retry_initial:g} s is longer than the longest, "
                    f"{delivery.retry_max:g} s",
                    key="OTEL_POSTHOG_RETRY_MAX",
                    source=self.sources["delivery.retry_max"],
                    hint="Raise it, or lower OTEL_POSTHOG_RETRY_INITIAL",
                )
            )

        self.errors += flags.mistakes(self.section("flags"))
        self.errors += browser.mistakes(self.section("browser"))

    def section(self, name: str) -> Any:
        """One section of `Settings` from what was read, defaults for the rest."""
        prefix = f"{name}."
        return _SECTIONS[name](
            **{path[len(prefix) :]: value for path, value in self.values.items() if path.startswith(prefix)}
        )


def _checks(
    environ: Mapping[str, str], reader: _Reader, plan: Plan, credential: Credential | None, argument: bool
) -> tuple[GateCheck, ...]:
    switch = reader.sources["enabled"]
    return (
        sdk_check(environ),
        switch_check(reader.values.get("enabled", True), "" if switch == DEFAULT else switch),
        instrumentation_check(environ),
        endpoint_check(environ, plan, argument),
        *token_checks(environ, plan, credential),
    )


def _lanes(
    environ: Mapping[str, str], plan: Plan, credential: Credential
) -> tuple[Lane | None, Lane | None, list[str]]:
    warnings: list[str] = []
    lanes: list[Lane | None] = []
    for endpoint in (plan.lane_endpoint, plan.other_endpoint if plan.both else None):
        if endpoint is None:
            lanes.append(None)
            continue
        lane, said = lane_for(environ, plan, endpoint, credential)
        lanes.append(lane)
        warnings.extend(said)
    return lanes[0], lanes[1], warnings


def _sinks(reader: _Reader) -> tuple[tuple[str, ...], bool]:
    kept: list[str] = []
    both = False
    listed: tuple[str, ...] = reader.values.get("sinks", ())
    for sink in listed:
        word, _, path = sink.partition(":")
        if word.lower() == "both" and not path:
            both = True
        elif word.lower() in ("console", "memory") and not path:
            kept.append(word.lower())
        elif word.lower() == "file" and path.strip():
            kept.append(f"file:{os.path.expanduser(path.strip())}")  # noqa: PTH111 - pathlib costs an import
        else:
            reader.errors.append(
                ConfigError(
                    f"the sink {word[:20]!r} " + ("needs a path" if word.lower() == "file" else "is not known"),
                    key="OTEL_POSTHOG_SINK",
                    source=reader.sources["sinks"],
                    hint=f"Use a list of {SINKS}",
                )
            )
    return tuple(kept), both


def _find_rules(reader: _Reader, directory: str) -> None:
    """Takes the rules from the app's `pyproject.toml` where no file was named."""
    if "rules.path" in reader.values:
        return
    path = os.path.join(directory, "pyproject.toml")  # noqa: PTH118 - pathlib costs an import in every process
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as above
            text = file.read()
    except OSError:
        return
    if re.search(_RULES_TABLE, text):  # compiled by those who have such a file
        reader.values["rules.path"] = path
        reader.sources["rules.path"] = f"[tool.otel_posthog] in {path}"


def _unknown(environ: Mapping[str, str]) -> list[str]:
    """Variables that look like ours and are not: nearly always a typing error, and otherwise without effect."""
    known = {row.name for row in names.VARIABLES}
    found: list[str] = []
    for name in environ:
        if name.startswith(names.PREFIX) and name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, 1, 0.85)
            if near:
                found.append(f"{name} is not a setting; did you mean {near[0]}?")
    return found


def _unknown_argument(name: str) -> ConfigError:
    import difflib

    known = [row.argument for row in OURS]
    near = difflib.get_close_matches(name, known, 1)
    return ConfigError(
        "no such setting",
        key=name,
        source="argument",
        hint=f"Did you mean {near[0]}?" if near else f"The settings are {', '.join(sorted(known))}",
    )


__all__ = ["load_settings"]
