"""From what was decoded to what the other rooms are promised (`parts.Prepared`)."""

from __future__ import annotations

from typing import Final

from otel_posthog.gateway.decode.decoded import Decoded
from otel_posthog.gateway.parts import Prepared
from otel_posthog.model import SignalKind

_SIGNAL_BYTES: Final = 3_000
"""Of memory for a decoded signal of twenty attributes, about."""


def prepared_of(decoded: Decoded, skipped: int = 0) -> Prepared:
    """A request of which `decoded` was read.

    Args:
        decoded: Signals of the candidates, and what could not be read.
        skipped: Items beside them that nobody wants.
    """
    signals = decoded.signals
    candidates = sum(signal.kind is not SignalKind.SPAN_EVENT for signal in signals)
    return Prepared(
        received=skipped + candidates + decoded.rejected,
        skipped=skipped,
        rejected=decoded.rejected,
        messages=decoded.error_messages,
        candidates=candidates,
        size=len(signals) * _SIGNAL_BYTES,
        signals=lambda: signals,
    )
