"""Capture v0: `POST <host>/batch/`, one status for the whole batch.

    {"api_key": TOKEN, "historical_migration": false, "sent_at": NOW, "batch": [EVENT, …]}

- The key is in the body; `sent_at` is fresh for every attempt and has no effect, because every event says
  `$ignore_sent_at`.
- Gzip by `Content-Encoding`. The body of a 200 is not defined (`{"status": "Ok"}`, `{"status": 1}`): the status
  decides, only a web page and what has no end are no answers of PostHog's.
- One bad event fails the whole batch with 400, one that is too large with 413: such a batch is halved until the guilty
  one is alone, all others pass.
- A 200 does not prove ingestion: unknown keys and exceeded quotas are answered 200 too.

| Status | Class |
| --- | --- |
| 2xx | delivered; a web page, or as much as is read of any answer: retryable |
| 3xx | retryable: never followed (the key would travel), says which setting to check |
| 400, 413 | halve |
| 401, 403 | credential |
| 404, 405 | retryable: the endpoint is wrong, not the data |
| 408, 429, 5xx | retryable, `Retry-After` is a floor |
| other 4xx | permanent |
"""

from __future__ import annotations

from collections.abc import Sequence

from otel_posthog.delivery import json_event
from otel_posthog.delivery.encoding import Compress, Dumps, retry_after, rfc3339
from otel_posthog.delivery.protocols import Request, Response
from otel_posthog.delivery.transport import MAX_ANSWER_BYTES
from otel_posthog.delivery.wire import CHECK_HOST, CHECK_KEY, USER_AGENT, Batch, Parcel, Verdicts, is_html, retryable
from otel_posthog.errors import BatchRefusedError, CredentialError, MisdirectedError, PermanentError
from otel_posthog.model import CaptureEvent

PATH = "/batch/"


class WireV0:
    """Capture v0 towards one host.

    Args:
        host: PostHog's capture host without trailing slash.
        token: The project API key.
        dumps: JSON encoder.
        compress: Gzip, or `None` for plain bodies.
    """

    name = "capture v0"
    overhead = 512

    def __init__(self, host: str, token: str, *, dumps: Dumps, compress: Compress | None) -> None:
        self._url = host + PATH
        self._host = host
        self._dumps = dumps
        self._compress = compress
        self._head = b'{"api_key":%b,"historical_migration":false,"sent_at":"' % dumps(token)
        self._headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
        if compress is not None:
            self._headers["Content-Encoding"] = "gzip"

    def encode(self, event: CaptureEvent, *, record: bool) -> Parcel:
        """See `Wire.encode`."""
        return json_event.encode_all((event,), self._dumps, record=record)[0]

    def encode_all(self, events: Sequence[CaptureEvent], *, record: bool) -> list[Parcel]:
        """See `Wire.encode_all`."""
        return json_event.encode_all(events, self._dumps, record=record)

    def request(self, batch: Batch, now: float) -> Request:
        """See `Wire.request`."""
        events = json_event.v0_batch(batch.parcels)
        body = b'%b%b","batch":[%b]}' % (self._head, rfc3339(int(now * 1e9)).encode(), events)
        return Request(self._url, self._headers, self._compress(body) if self._compress else body)

    def read(self, batch: Batch, response: Response, now: float) -> Verdicts:
        """See `Wire.read`."""
        status = response.status
        if 200 <= status < 300:
            if is_html(response):
                raise MisdirectedError(f"{self._host} answered a web page: it is not PostHog's capture host")
            if len(response.body) >= MAX_ANSWER_BYTES:  # PostHog says "Ok" in a few bytes
                raise MisdirectedError(f"{self._host} answered without end: it is not PostHog's capture host")
            return Verdicts(delivered=batch.parcels)
        if 300 <= status < 400:
            raise MisdirectedError(f"{self._host} redirects ({status}), which is never followed: check {CHECK_HOST}")
        if status in (400, 413):
            raise BatchRefusedError(f"PostHog refused a batch ({status})")
        if status in (401, 403):
            raise CredentialError(f"PostHog refused the project API key ({status}): check {CHECK_KEY} and the region")
        if status in (404, 405):
            raise MisdirectedError(f"no capture API at {self._host} ({status}): check {CHECK_HOST}")
        if status in (408, 429) or status >= 500:
            pause = retry_after(response.headers.get("retry-after", ""), now)
            raise retryable(f"PostHog answered {status}", pause)
        raise PermanentError(f"PostHog refused a batch for good ({status})")
