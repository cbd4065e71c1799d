"""THE delivery: CaptureEvents -> a sink, with batching, retry and spool; knows nothing of signals."""

from otel_posthog.delivery.protocols import Delivery, DeliveryStats

__all__ = ["Delivery", "DeliveryStats"]
