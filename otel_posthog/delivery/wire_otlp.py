"""OTLP logs over HTTP towards a Collector: `POST <endpoint>/v1/logs`, binary protobuf, gzip.

    ExportLogsServiceRequest { 1: ResourceLogs { 1: Resource, 2: ScopeLogs { 1: Scope, 2: LogRecord … } } }

Every event is serialised once (`otlp_record`); a request only puts lengths before what is there.

- 200 with `partial_success` may not be retried (OTLP specification, "Partial Success"): what the receiver rejected is
  lost. It says how many, not which; the books count that many.
- A web page with status 200 is not a Collector.

| Status | Class |
| --- | --- |
| 2xx | delivered, less what `partial_success` rejects; a web page: retryable |
| 429, 502, 503, 504 | retryable by the specification, `Retry-After` is a floor |
| 400, 413, 422 | halve: one record may be at fault, or there are too many |
| 401, 403 | retryable: a Collector reloads its tokens, ours may be valid a minute later |
| 3xx, 404, 405, 408, all other 5xx | retryable: a Collector that starts, or a proxy, says nothing about the data |
| other 4xx | permanent |

The specification lets a client drop on the third and fourth row but one. Product events are not sampled telemetry, so
nothing is dropped before `retry_elapsed` unless the data itself is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from otel_posthog.delivery import json_event
from otel_posthog.delivery.encoding import Compress, Dumps, retry_after
from otel_posthog.delivery.otlp_record import LogRecords, field, resource_bytes, scope_bytes
from otel_posthog.delivery.protocols import Request, Response
from otel_posthog.delivery.wire import USER_AGENT, Batch, Parcel, Verdicts, is_html, retryable
from otel_posthog.errors import BatchRefusedError, PermanentError
from otel_posthog.model import CaptureEvent, LossReason

_RECORD = b"\x12"  # field 2, length-delimited: ScopeLogs.log_records, and ResourceLogs.scope_logs
_FIRST = b"\x0a"  # field 1, length-delimited: resource_logs, resource, scope


class WireOtlp:
    """OTLP logs towards one Collector.

    Args:
        url: Full URL of the logs endpoint.
        headers: Sent with every request (`authorization` and others); values are secret.
        dumps: JSON encoder.
        compress: Gzip, or `None` for plain bodies.
        resource: Resource attributes of the records, e.g. `service.name`.
    """

    name = "OTLP logs"

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        dumps: Dumps,
        compress: Compress | None,
        resource: Mapping[str, object] | None = None,
    ) -> None:
        self._url = url
        self._dumps = dumps
        self._compress = compress
        self._records = LogRecords(dumps)
        self._resource = field(_FIRST, resource_bytes(resource or {}))
        self._scope = field(_FIRST, scope_bytes())
        self.overhead = len(self._resource) + len(self._scope) + 32
        self._headers = {"Content-Type": "application/x-protobuf", "User-Agent": USER_AGENT, **headers}
        if compress is not None:
            self._headers["Content-Encoding"] = "gzip"

    def encode_all(self, events: Sequence[CaptureEvent], *, record: bool) -> list[Parcel]:
        """See `Wire.encode_all`."""
        return [self.encode(event, record=record) for event in events]

    def encode(self, event: CaptureEvent, *, record: bool) -> Parcel:
        """See `Wire.encode`."""
        uuid = json_event.check(event)
        framed = field(_RECORD, self._records.record(event, uuid))
        return Parcel(
            uuid=uuid,
            parts=(framed,),
            size=len(framed),
            record=json_event.record_of(event, self._dumps) if record else b"",
        )

    def request(self, batch: Batch, now: float) -> Request:  # noqa: ARG002 - nothing in it changes with the attempt
        """See `Wire.request`."""
        scope_logs = self._scope + b"".join(parcel.parts[0] for parcel in batch.parcels)
        body = field(_FIRST, self._resource + field(_RECORD, scope_logs))
        return Request(self._url, self._headers, self._compress(body) if self._compress else body)

    def read(self, batch: Batch, response: Response, now: float) -> Verdicts:
        """See `Wire.read`."""
        status = response.status
        if 200 <= status < 300:
            if is_html(response):
                raise retryable("the Collector's address answers with a web page: check OTEL_EXPORTER_OTLP_ENDPOINT")
            return _verdicts(batch, _rejected(response))
        if status in (400, 413, 422):
            raise BatchRefusedError(f"the Collector refused a batch ({status})")
        if status in (401, 403):
            raise retryable(f"the Collector refused our credentials ({status}): check OTEL_EXPORTER_OTLP_TOKEN")
        if 300 <= status < 400:
            raise retryable(f"the Collector's address redirects ({status}), which is never followed")
        if status in (404, 405):
            raise retryable(f"no OTLP logs receiver at that address ({status}): check OTEL_EXPORTER_OTLP_ENDPOINT")
        if status in (408, 429) or status >= 500:
            pause = retry_after(response.headers.get("retry-after", ""), now)
            raise retryable(f"the Collector answered {status}", pause)
        raise PermanentError(f"the Collector refused a batch for good ({status})")


def _verdicts(batch: Batch, rejected: int) -> Verdicts:
    if not rejected:
        return Verdicts(delivered=batch.parcels)
    kept = max(len(batch.parcels) - rejected, 0)
    lost = [(parcel, LossReason.REJECTED) for parcel in batch.parcels[kept:]]
    return Verdicts(
        delivered=batch.parcels[:kept],
        lost=lost,
        note=f"the Collector rejected {len(lost)} of {len(batch.parcels)} events",
    )


def _rejected(response: Response) -> int:
    """`partial_success.rejected_log_records`; 0 where the answer has none or cannot be read (200 means taken)."""
    if not response.body:
        return 0
    if "json" in response.headers.get("content-type", ""):
        try:
            answer = json.loads(response.body)
            partial = cast("dict[str, Any]", answer)["partialSuccess"]
            return max(int(partial["rejectedLogRecords"]), 0)
        except (ValueError, KeyError, TypeError, RecursionError):
            return 0
    # Only an answer that says something needs it, and hardly one does.
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

    try:
        return max(ExportLogsServiceResponse.FromString(response.body).partial_success.rejected_log_records, 0)
    except DecodeError:
        return 0
