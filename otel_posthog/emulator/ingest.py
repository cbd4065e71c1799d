"""From one request to its answer, without HTTP's machinery: body and headers in, status and body out.

Called in worker threads; the store is the only thing shared.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from fnmatch import fnmatchcase

from otel_posthog.emulator import capture_v0, capture_v1, otlp
from otel_posthog.emulator.exchange import Answer, Incoming, json_answer
from otel_posthog.emulator.faults import Fault
from otel_posthog.emulator.flags.service import DECIDE_PATH, DEFINITION_PATHS, FLAGS_PATH, FlagService
from otel_posthog.emulator.flags.state import FlagState
from otel_posthog.emulator.limits import Limits
from otel_posthog.emulator.project_token import fault_of
from otel_posthog.emulator.received import Drop, ReceivedBatch
from otel_posthog.emulator.refusal import Refusal
from otel_posthog.emulator.store import Store

V0_PATHS = ("/batch", "/e", "/capture", "/track", "/engage", "/i/v0/e", "/s")
V1_PATH = "/i/v1/analytics/events"
OTLP_PATHS = tuple(f"{prefix}/v1/{signal}" for prefix in ("/i", "") for signal in otlp.SIGNALS)


class Ingest:
    """PostHog's endpoints for clients, over a store.

    Args:
        store: Where events go.
        limits: Sizes at which requests are refused.
        clock: Server time.
        flags: Feature flags; None for no flag.
        recording: Browsers are told that the project records sessions.
    """

    def __init__(
        self,
        store: Store,
        limits: Limits,
        clock: Callable[[], datetime],
        flags: FlagState | None = None,
        *,
        recording: bool = False,
    ) -> None:
        self._store = store
        ceiling = limits.v0_single * limits.v0_decompressed_factor
        self._flags = FlagService(flags or FlagState(), store, clock, ceiling, recording=recording)
        self._limits = limits
        self._clock = clock

    def body_limit(self, path: str) -> int:
        """Bytes of a request body as sent that `path` takes."""
        if path == V1_PATH:
            return self._limits.v1_compressed
        if path == "/batch":
            return self._limits.v0_batch
        return self._limits.otlp if path in OTLP_PATHS else self._limits.v0_single

    def too_large(self, path: str) -> Answer:
        """The answer to a body beyond `body_limit`."""
        return self._refused(path, _too_large(path))

    def stalled(self, path: str) -> Answer:
        """The answer to a body that stopped coming."""
        text = "body read stalled"
        if path == V1_PATH:
            return self._refused(path, capture_v1.refusal(408, "body_read_timeout", text))
        return self._refused(path, Refusal(408, "body_read_timeout", text))

    def answer(self, request: Incoming, fault: Fault | None = None) -> Answer:
        """Processes one request; `request.path` comes without a trailing slash."""
        try:
            if request.path == V1_PATH:
                return self._v1(request, fault)
            if request.path in OTLP_PATHS:
                return self._otlp(request)
            if request.path in {FLAGS_PATH, DECIDE_PATH}:
                return self._flags.evaluated(request, fault)
            if request.path in DEFINITION_PATHS:
                return self._flags.definitions(request, fault)
            if request.path.startswith("/api/projects/"):
                return self._flags.remote_config(request)
            if request.path.startswith("/array/"):
                return self._flags.browser_config(request)
            return self._v0(request, fault)
        except Refusal as refusal:
            return self._refused(request.path, refusal)

    def _v0(self, request: Incoming, fault: Fault | None) -> Answer:
        batch = capture_v0.read_batch(
            request.body, path=request.path, query=request.query, now=self._clock(), limits=self._limits
        )
        if fault is not None and fault.action == "quota":
            _over_quota(batch)
        self._store.add_events(batch.events, batch.drops, path=request.path)
        if request.query.get("beacon") == "1":
            return Answer(204, b"")
        return json_answer(200, {"status": "Ok"})

    def _v1(self, request: Incoming, fault: Fault | None) -> Answer:
        head = capture_v1.read_head(request.headers)
        batch = capture_v1.read_batch(head, request.body, now=self._clock(), limits=self._limits)
        if fault is not None and fault.action == "quota":
            _over_quota(batch)
        elif fault is not None and fault.action == "verdict":
            _judge(batch, fault)
        self._store.add_events(batch.events, batch.drops, path=request.path)
        retry = any(verdict["result"] == "retry" for verdict in batch.verdicts.values())
        return json_answer(200, {"results": batch.verdicts}, {"Retry-After": "1"} if retry else None)

    def _otlp(self, request: Incoming) -> Answer:
        signal = request.path.rpartition("/")[2]
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else request.query.get("token", "").strip()
        fault = fault_of(token)
        if fault:
            raise Refusal(401, "invalid_token", "No valid token provided", detail=fault)
        rows = otlp.decode(signal, request.body, limit=self._limits.otlp)
        self._store.add_telemetry(token, rows, signal=signal)
        return json_answer(200, {})

    def _refused(self, path: str, refusal: Refusal) -> Answer:
        self._store.add_refusal(path=path, status=refusal.status, reason=refusal.reason, detail=refusal.detail)
        if path == V1_PATH:
            return json_answer(refusal.status, capture_v1.error_body(refusal), refusal.headers)
        if path in OTLP_PATHS:
            return json_answer(refusal.status, {"error": refusal.text}, refusal.headers)
        if path in DEFINITION_PATHS or path.startswith("/api/projects/"):
            body = {"type": "authentication_error", "code": refusal.reason, "detail": refusal.text, "attr": None}
            return json_answer(refusal.status, body)
        return Answer(refusal.status, refusal.text.encode(), "text/plain; charset=utf-8", refusal.headers)


def _too_large(path: str) -> Refusal:
    if path == V1_PATH:
        return capture_v1.refusal(413, "payload_too_large", "payload too large: request body exceeds the limit")
    return Refusal(413, "payload_too_large", "maximum event size exceeded")


def _over_quota(batch: ReceivedBatch) -> None:
    for event in batch.events:
        batch.drops.append(Drop("billing_limit_exceeded", event.event, event.uuid))
        batch.verdicts[event.uuid] = {"result": "drop", "details": "billing_limit_exceeded"}
    batch.events.clear()


def _judge(batch: ReceivedBatch, fault: Fault) -> None:
    kept = list(batch.events)
    for event in batch.events:
        if not fnmatchcase(event.event, fault.event):
            continue
        verdict = {"result": fault.result}
        if fault.details:
            verdict["details"] = fault.details
        batch.verdicts[event.uuid] = verdict
        if not fault.keeps(fault.result):
            kept.remove(event)
            if fault.result == "drop":
                batch.drops.append(Drop(fault.details or "scripted_drop", event.event, event.uuid))
    batch.events[:] = kept
