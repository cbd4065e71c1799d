"""THE converter: Signal -> Decision with CaptureEvents. Pure; the single source of truth for both paths."""

from otel_posthog.convert.converter import Converter

__all__ = ["Converter"]
