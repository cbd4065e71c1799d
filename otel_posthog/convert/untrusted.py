"""Where captured `x-posthog-*` request headers are not believed (`ConvertConfig.trust_headers`): as if nobody had them.

A gateway takes telemetry of services that other people run, in front of which anybody writes headers. Without this
switch each place that reads an identity would have to know who may be believed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from otel_posthog.model import Attributes, Signal
from otel_posthog.semconv import otel

_HEADERS: Final = frozenset((*otel.HEADER_DISTINCT_ID, *otel.HEADER_SESSION_ID))


def without_headers(signal: Signal) -> Signal:
    """`signal` without identity and session of captured request headers, its owning span included.

    Args:
        signal: Any.
    """
    attributes = _left(signal.attributes)
    span = without_headers(signal.span) if signal.span is not None else None
    if attributes is signal.attributes and span is signal.span:
        return signal
    return replace(signal, attributes=attributes, span=span)  # pyright: ignore[reportArgumentType] - a dataclass


def _left(attributes: Attributes) -> Attributes:
    if _HEADERS.isdisjoint(attributes):
        return attributes
    return {key: value for key, value in attributes.items() if key not in _HEADERS}
