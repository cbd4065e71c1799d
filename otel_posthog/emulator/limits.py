"""Sizes and times at which PostHog refuses, in one place; tests shrink them."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """PostHog's limits (posthog-wire §1.1, §1.7, §4.1); the defaults are those of its source.

    Args:
        v0_batch: Bytes of a `/batch` request body as sent.
        v0_single: Bytes of a request body as sent to the single-event endpoints.
        v0_decompressed_factor: The decompressed ceiling is this many times the sent one.
        v1_compressed: Bytes of a v1 request body as sent.
        v1_decompressed: Bytes of a v1 request body after decompression.
        event: Bytes of one event as compact JSON; the cap of a message on PostHog's bus.
        otlp: Bytes of an OTLP request after decompression.
        body_timeout: Seconds without a further byte of the body until 408.
    """

    v0_batch: int = 20 * MIB
    v0_single: int = 2 * MIB
    v0_decompressed_factor: int = 5
    v1_compressed: int = 10 * MIB
    v1_decompressed: int = 50 * MIB
    event: int = 1_000_000
    otlp: int = 2 * MIB
    body_timeout: float = 10.0
