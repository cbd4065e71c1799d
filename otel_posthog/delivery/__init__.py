"""THE delivery: CaptureEvents -> a sink, with batching, retry and spool; knows nothing of signals."""

from otel_posthog.delivery.protocols import Delivery, DeliveryStats, Receipt

__all__ = ["Delivery", "DeliveryStats", "Receipt"]
