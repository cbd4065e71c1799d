"""Capture v1: `POST <host>/i/v1/analytics/events`, a verdict for each event.

    Authorization: Bearer TOKEN                 PostHog-Attempt: 1, 2, …
    PostHog-Sdk-Info: otel-posthog/VERSION      PostHog-Request-Timestamp: fresh for every attempt
    PostHog-Request-Id: UUID, stable over the retries of a batch

    {"created_at": TIME, stable over the retries, "batch": [EVENT, …]}

- `$session_id` and `$window_id` travel beside the properties, `$process_person_profile`, `$cookieless_mode` and
  `$product_tour_id` as typed `options` (a wrong type fails the batch on older servers: what has no such type is left
  out), `$lib` and `$lib_version` in the header. `disable_skew_correction` is always on.
- 200 carries `{"results": {UUID: {"result": "ok|warning|drop|retry", "details"?: CODE}}}`. Only `retry` is sent again.
- An event that the answer does not name may not have been seen: it is sent again, at most three times, then lost.
- A verdict that we do not know is a verdict: the event is not sent again (a newer server's flavour of success would
  otherwise block the queue for ever), it counts as delivered, and `last_error` says so.
- A duplicate uuid fails the whole batch: the batcher never puts two of one uuid into one.

| Status | Class |
| --- | --- |
| 2xx with results | a verdict for each |
| 2xx that breaks off | retryable: an answer was lost |
| 2xx of another shape, web pages, 3xx, 404, 405, 501 | this is not capture v1 (`auto` falls back, else retryable) |
| 400, 413 | halve |
| 401, 403 | credential |
| 408, 429, 5xx | retryable, `Retry-After` is a floor |
| other 4xx | permanent |
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, cast

from otel_posthog.delivery import json_event
from otel_posthog.delivery.encoding import Compress, Dumps, retry_after, rfc3339
from otel_posthog.delivery.protocols import Request, Response
from otel_posthog.delivery.wire import CHECK_KEY, USER_AGENT, Batch, Parcel, Verdicts, code_of, is_html, retryable
from otel_posthog.errors import BatchRefusedError, CredentialError, PermanentError, ProtocolAbsentError
from otel_posthog.model import CaptureEvent, LossReason

PATH = "/i/v1/analytics/events"
MAX_UNANSWERED = 3
_OK = {"result": "ok"}
"""The verdict on nearly every event."""
_OK_FOUND = re.compile(r'"([0-9a-f-]{36})":\s*\{\s*"result":\s*"ok"\s*\}')
"""The same in an answer: whatever else is in there, this event has it (inside of a string the quotes are escaped)."""


class WireV1:
    """Capture v1 towards one host.

    Args:
        host: PostHog's capture host without trailing slash.
        token: The project API key.
        dumps: JSON encoder.
        compress: Gzip, or `None` for plain bodies.
    """

    name = "capture v1"
    overhead = 128

    def __init__(self, host: str, token: str, *, dumps: Dumps, compress: Compress | None) -> None:
        self._url = host + PATH
        self._host = host
        self._dumps = dumps
        self._compress = compress
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "Authorization": f"Bearer {token}",
            "PostHog-Sdk-Info": USER_AGENT,
        }
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
        headers = {
            **self._headers,
            "PostHog-Attempt": str(batch.attempts),
            "PostHog-Request-Id": batch.request_id,
            "PostHog-Request-Timestamp": rfc3339(int(now * 1e9)),
        }
        before = b'{"created_at":"%b","batch":[' % rfc3339(batch.created_ns).encode()
        body = json_event.v1_batch(before, batch.parcels, b"]}")
        return Request(self._url, headers, self._compress(body) if self._compress else body)

    def read(self, batch: Batch, response: Response, now: float) -> Verdicts:
        """See `Wire.read`."""
        status = response.status
        if status in (408, 429) or (status >= 500 and status != 501):
            # Before the look for web pages: a proxy's own 503 page says nothing about what stands behind it.
            raise retryable(f"PostHog answered {status}", _pause(response, now))
        if is_html(response) or 300 <= status < 400 or status in (404, 405, 501):
            raise ProtocolAbsentError(f"no capture v1 API at {self._host} ({status})")
        if status in (400, 413):
            raise BatchRefusedError(f"PostHog refused a batch ({status}{_error_code(response)})")
        if status in (401, 403):
            raise CredentialError(f"PostHog refused the project API key ({status}): check {CHECK_KEY} and the region")
        if not 200 <= status < 300:
            raise PermanentError(f"PostHog refused a batch for good ({status}{_error_code(response)})")
        # An answer that is all "ok" is hardly ever anything else, and need not become a hundred dicts.
        found = set(_OK_FOUND.findall(response.body.decode("latin-1")))
        if found.issuperset([parcel.uuid for parcel in batch.parcels]):
            return Verdicts(delivered=batch.parcels)
        return _verdicts(batch, self._results(batch, response), _pause(response, now))

    def _results(self, batch: Batch, response: Response) -> dict[str, Any]:
        try:
            answer = json.loads(response.body)
        except (ValueError, RecursionError):
            if response.body.lstrip()[:1] == b"{":
                raise retryable(f"{self._host} broke off its answer: nothing is known about the batch") from None
            raise ProtocolAbsentError(f"{self._host} does not answer as capture v1 does") from None
        results = cast(dict[str, Any], answer).get("results") if isinstance(answer, dict) else None
        if not isinstance(results, dict):
            raise ProtocolAbsentError(f"{self._host} does not answer as capture v1 does")
        found = cast(dict[str, Any], results)
        if all(parcel.uuid in found for parcel in batch.parcels):
            return found
        return {key.lower(): value for key, value in found.items()}


def _verdicts(batch: Batch, results: dict[str, Any], pause: float) -> Verdicts:
    delivered: list[Parcel] = []
    lost: list[tuple[Parcel, LossReason]] = []
    again: list[Parcel] = []
    notes: list[str] = []
    for parcel in batch.parcels:
        found = results.get(parcel.uuid)
        if found == _OK:
            delivered.append(parcel)
            continue
        entry = cast(dict[str, Any], found) if isinstance(found, dict) else {}
        result = entry.get("result")
        details = code_of(entry.get("details"))
        if result in ("ok", "warning"):
            delivered.append(parcel)
        elif result == "drop":
            lost.append((parcel, LossReason.DROPPED_BY_SERVER))
            notes.append(f"PostHog dropped an event ({details or 'no reason given'})")
        elif result == "retry":
            again.append(parcel)
            notes.append(f"PostHog asks for an event again ({details or 'no reason given'})")
        elif result is None:
            parcel.unanswered += 1
            notes.append("PostHog's answer does not name every event")
            if parcel.unanswered < MAX_UNANSWERED:
                again.append(parcel)
            else:
                lost.append((parcel, LossReason.RETRIES_EXHAUSTED))
        else:
            delivered.append(parcel)
            notes.append(f"PostHog gave an unknown verdict ({code_of(result) or 'not a word'})")
    return Verdicts(delivered=delivered, lost=lost, again=again, delay=pause, note=notes[-1] if notes else "")


def _pause(response: Response, now: float) -> float:
    return retry_after(response.headers.get("retry-after", ""), now)


def _error_code(response: Response) -> str:
    try:
        answer = json.loads(response.body)
    except (ValueError, RecursionError):
        return ""
    code = code_of(cast(dict[str, Any], answer).get("error")) if isinstance(answer, dict) else ""
    return f", {code}" if code else ""
