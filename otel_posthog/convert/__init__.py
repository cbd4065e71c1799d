"""THE converter: Signal -> Decision with CaptureEvents. Pure; the single source of truth for both paths."""

from typing import TYPE_CHECKING

from otel_posthog.lazy import lazy_exports

if TYPE_CHECKING:
    from otel_posthog.convert.converter import Converter
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "Converter": "converter",
        },
    )

__all__ = ["Converter"]
