"""The gate: whether anything runs at all, and every condition that decided it (DESIGN §2, decision 0001)."""

from __future__ import annotations

from collections.abc import Mapping

from otel_posthog.config import environment as names
from otel_posthog.config.headers import Credential, token_problem
from otel_posthog.config.lanes import Plan
from otel_posthog.config.settings import GateCheck, Mode
from otel_posthog.config.values import is_true, text_of

OWN_NAMES = frozenset({"posthog", "*"})


def sdk_check(environ: Mapping[str, str]) -> GateCheck:
    """`OTEL_SDK_DISABLED` is not `true`, by the SDK's own rule (any case, blanks ignored)."""
    text = environ.get(names.SDK_DISABLED) or ""
    if is_true(text):
        return GateCheck("sdk", False, f"{names.SDK_DISABLED} is true", names.SDK_DISABLED)
    return GateCheck("sdk", True, "the OpenTelemetry SDK is not disabled", names.SDK_DISABLED if text.strip() else "")


def switch_check(enabled: bool, source: str) -> GateCheck:
    """Our own switch is not off.

    Args:
        enabled: What `OTEL_POSTHOG_ENABLED` or the argument `enabled` says.
        source: Which of them, "" for neither.
    """
    if not enabled:
        return GateCheck("switch", False, f"{source} is false", source)
    return GateCheck("switch", True, f"{source} is true" if source else "not switched off", source)


def instrumentation_check(environ: Mapping[str, str]) -> GateCheck:
    """Neither `posthog` nor `*` is among the disabled instrumentations."""
    name = names.DISABLED_INSTRUMENTATIONS
    text = text_of(environ, name)
    found = [item for item in (part.strip() for part in text.split(",")) if item.lower() in OWN_NAMES]
    if found:
        return GateCheck("instrumentation", False, f"{name} lists {found[0]!r}", name)
    return GateCheck("instrumentation", True, "not among the disabled instrumentations", name if text else "")


def endpoint_check(environ: Mapping[str, str], plan: Plan, argument: bool) -> GateCheck:
    """An endpoint is set: the base, a signal's own, or an argument."""
    if plan.sources:
        source = plan.lane_endpoint.source if plan.lane_endpoint else plan.sources[0]
        return GateCheck("endpoint", True, f"{source} is set", source)
    what = "is blank" if names.ENDPOINT in environ or argument else "is not set"
    return GateCheck("endpoint", False, f"{names.ENDPOINT} {what}", names.ENDPOINT if what == "is blank" else "")


def token_checks(environ: Mapping[str, str], plan: Plan, credential: Credential | None) -> tuple[GateCheck, ...]:
    """A token is set, and it is one that could work."""
    if credential is None:
        return (_no_token(environ, plan),)
    found = GateCheck("token", True, f"{credential.source} is set", credential.source)
    if plan.token_mode is None:
        return (found,)
    problem = token_problem(credential, direct=plan.token_mode is Mode.DIRECT)
    if problem:
        return found, GateCheck("token shape", False, problem, credential.source, mistake=True)
    what = "project API key" if plan.token_mode is Mode.DIRECT else "bearer token"
    return found, GateCheck("token shape", True, f"it can be a {what}", credential.source)


def _no_token(environ: Mapping[str, str], plan: Plan) -> GateCheck:
    blank = names.TOKEN in environ
    reason = f"{names.TOKEN} is {'blank' if blank else 'not set'}"
    if plan.foreign_authorization and plan.token_endpoint:
        reason += (
            f", and the authorization in {plan.foreign_authorization} does not count towards"
            f" {plan.token_endpoint.host}: that is other vendors' usual set-up, where installing this package must"
            " change nothing"
        )
    return GateCheck("token", False, reason, names.TOKEN if blank else "")
