"""What `opentelemetry-instrument` loads before anything is built (entry point `opentelemetry_environment_variables`).

Two things happen when it is imported, and nothing else:

- every `OTEL_*` name of ours becomes a constant of this module, which is how `opentelemetry-instrument` gets its
  command-line flags (`--posthog_mode direct`, `--exporter_otlp_token …`);
- behind the gate the token, the protocol and the carrier mark are put where the standard OTLP exporters read them
  (`config.otlp_environment`). They are built later, in another program image, so this is the last moment at which that
  takes no change to any live object. It only adds what is missing, so a second import changes nothing.

A failure here is nobody's business but ours: the hook (`auto.install`) says it again, and better, in the app.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import PurePath

from otel_posthog.config.environment import CAPTURE_REQUEST_HEADERS, options_of_opentelemetry_instrument

globals().update(options_of_opentelemetry_instrument())


def flags(argv: Sequence[str]) -> dict[str, str]:
    """The variables that the command line of `opentelemetry-instrument` is about to set.

    It reads its flags after having loaded this module, so a token given as a flag is not in the environment yet.

    Args:
        argv: The command line, program first.

    Returns:
        Variable -> value, each flag under both names it may stand for; empty for any other program.
    """
    found: dict[str, str] = {}
    if not argv or PurePath(argv[0]).stem != "opentelemetry-instrument":
        return found
    words = iter(argv[1:])
    for word in words:
        matched = re.fullmatch(r"--([a-z0-9_]+)(?:=(.*))?", word, re.DOTALL)
        if matched is None:
            break  # the command: what follows are its own arguments
        value = matched[2] if matched[2] is not None else next(words, "")
        found[f"OTEL_{matched[1].upper()}"] = found[f"OTEL_PYTHON_{matched[1].upper()}"] = value
    return found


def carrier_mark(environ: Mapping[str, str]) -> str:
    """What marks the telemetry of a process with this environment as bridged, in collector mode: `bridge[:<digest>]`.

    Returns:
        "" where there is nothing to mark: the gate is shut, the mode is direct, or the rules are wrong (then the
        process carries nothing, and a gateway has to convert its telemetry).
    """
    from otel_posthog.config.load import load_settings
    from otel_posthog.config.settings import Mode
    from otel_posthog.errors import ConfigError
    from otel_posthog.rules.load import load_rules
    from otel_posthog.semconv.posthog import CARRIER_BRIDGE

    try:
        settings = load_settings(environ)
        if not settings.enabled or settings.lane is None or settings.lane.mode is not Mode.COLLECTOR:
            return ""
        digest = load_rules(settings.rules).digest
        return f"{CARRIER_BRIDGE}:{digest}" if digest else CARRIER_BRIDGE
    except ConfigError:
        return ""


def apply(environ: MutableMapping[str, str], overlay: Mapping[str, str] | None = None) -> dict[str, str]:
    """Puts into `environ` what the standard exporters need, where the gate is open; never raises.

    Args:
        environ: Changed in place.
        overlay: Further variables that will be set before the exporters are built.

    Returns:
        What was changed.
    """
    try:
        from otel_posthog.config.otlp_environment import standard_otlp_environment

        expected = {**environ, **(overlay or {})}
        changes = standard_otlp_environment(expected, digest=carrier_mark(expected))
        # Left to the hook, which is early enough: EDOT's configurator prints every variable named …HEADERS… and
        # complains about those that are lists.
        changes.pop(CAPTURE_REQUEST_HEADERS, None)
        environ.update(changes)
        return dict(changes)
    except Exception:  # noqa: BLE001 - the edge: it must never break `opentelemetry-instrument`
        return {}


apply(os.environ, flags(sys.argv))
