"""The doctor's checks over the network: each lane reached, its clock compared, CORS asked, a test event sent.

Nothing here stores anything at PostHog, except `send_event`: an empty batch is asked for and has to be refused.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TypeVar

from otel_posthog.cli.findings import Finding, ok, problem, warn
from otel_posthog.cli.status import without_query
from otel_posthog.config.otlp_environment import REQUEST_HEADERS
from otel_posthog.config.settings import Lane, Mode, Settings
from otel_posthog.delivery.protocols import Clock, Request, Response, Transport
from otel_posthog.errors import ConfigError, DeliveryError
from otel_posthog.model import CaptureEvent
from otel_posthog.version import __version__

Result = TypeVar("Result")

TEST_EVENT = "otel_posthog_doctor"
SKEW_WARN, SKEW_PROBLEM = 10, 60
CORS_HEADERS = (*REQUEST_HEADERS, "traceparent")

USER_AGENT = f"otel-posthog-doctor/{__version__}"


def bounded(call: Callable[[], Result], seconds: float) -> Result:
    """Runs `call` for `seconds` at the most, since name resolution has no limit of its own.

    Raises:
        TimeoutError: It took longer; it goes on in a daemon thread and is forgotten.
    """
    results: list[Result] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            failures.append(error)

    thread = threading.Thread(target=work, name="otel-posthog-doctor", daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return results[0]


def lanes_of(settings: Settings) -> list[Lane]:
    """The lanes that product data uses."""
    return [lane for lane in (settings.lane, settings.also) if lane]


def reach(lane: Lane, transport: Transport, clock: Clock, timeout: float) -> Iterator[Finding]:
    """Whether a lane's server answers, takes the token, and has our time."""
    where = without_query(lane.url)
    try:
        answer = bounded(lambda: _ask(lane, transport, clock, timeout), timeout * 2 + 1)
    except (DeliveryError, TimeoutError) as error:
        yield problem(
            "network",
            f"{where}: {error}",
            "nothing can be delivered",
            network_mend(str(error), collector=lane.mode is Mode.COLLECTOR),
        )
        return
    yield _answered(lane, where, answer)
    yield from _skew(where, answer, clock)


def _ask(lane: Lane, transport: Transport, clock: Clock, timeout: float) -> Response:
    if lane.mode is Mode.COLLECTOR:
        headers = {name: value.reveal() for name, value in lane.headers.items()}
        if lane.token:
            headers["authorization"] = f"Bearer {lane.token.reveal()}"
        # No bytes at all are a valid, empty ExportLogsServiceRequest.
        headers |= {"content-type": "application/x-protobuf", "user-agent": USER_AGENT}
        return transport.post(Request(lane.url, headers, b""), timeout=timeout)
    now = datetime.fromtimestamp(clock.time(), timezone.utc).isoformat()
    headers = {"content-type": "application/json", "user-agent": USER_AGENT}
    v1 = {
        **headers,
        "authorization": f"Bearer {lane.token.reveal()}",
        "posthog-sdk-info": f"otel-posthog/{__version__}",
        "posthog-attempt": "1",
        "posthog-request-id": str(uuid.uuid4()),
        "posthog-request-timestamp": now,
    }
    body = json.dumps({"created_at": now, "batch": []}).encode()
    answer = transport.post(Request(f"{lane.url}/i/v1/analytics/events", v1, body), timeout=timeout)
    if answer.status not in (404, 405):
        return answer
    body = json.dumps({"api_key": lane.token.reveal(), "batch": []}).encode()
    return transport.post(Request(f"{lane.url}/batch/", headers, body), timeout=timeout)


def network_mend(text: str, *, collector: bool = False) -> str:
    """What to do about a connection that failed.

    Args:
        text: What was said of it.
        collector: It was to a Collector.
    """
    for word, mend in (
        ("resolved", "Check the host's spelling in the endpoint, and the DNS of this machine or container."),
        (
            "refuses",
            "Start the server, or mend host and port of the endpoint; in a container `localhost` is that container."
            + (" A Collector needs its OTLP receiver's `http` protocol." if collector else ""),
        ),
        (
            "client certificate",
            "Set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY to what the server accepts.",
        ),
        (
            "certificate",
            "Set OTEL_EXPORTER_OTLP_CERTIFICATE to the PEM file of your CA, and check this machine's clock.",
        ),
        ("TLS", "Check https or http in the endpoint, and the port."),
        ("proxy", "Mend HTTPS_PROXY, or put the host into NO_PROXY."),
    ):
        if word in text:
            return mend
    return "Check firewall, proxy (HTTPS_PROXY) and network policy between here and the host."


def _answered(lane: Lane, where: str, answer: Response) -> Finding:
    direct, status = lane.mode is Mode.DIRECT, answer.status
    html = "html" in answer.headers.get("content-type", "")
    if status in (401, 403):
        return problem(
            "token",
            f"{where} answers {status}: it does not take the token",
            "every batch will be refused",
            "Copy the project API key (phc_…) anew, and mind the region: a key of us works at us.i.posthog.com only."
            if direct
            else "Give OTEL_EXPORTER_OTLP_TOKEN the token that the Collector's receiver, or the gateway, expects.",
        )
    if 300 <= status < 400:
        return problem(
            "network",
            f"{where} answers {status}, a redirect to {location_of(answer)}",
            "redirects are not followed, since they would carry the token elsewhere",
            "Set the endpoint to the address that it redirects to.",
        )
    if status in (404, 405) or (direct and html and status < 500):
        what = "PostHog's capture API" if direct else "an OTLP/HTTP receiver"
        return problem(
            "network",
            f"{where} answers {status}" + (" with a web page" if html else "") + f": there is no {what}",
            "every batch will be refused",
            "Set the endpoint to https://us.i.posthog.com/i or https://eu.i.posthog.com/i (or your own PostHog's)."
            if direct
            else "Set OTEL_EXPORTER_OTLP_LOGS_ENDPOINT to the receiver's address, as a rule http://host:4318/v1/logs.",
        )
    if status == 429 or status >= 500:
        return problem(
            "network",
            f"{where} answers {status}",
            "batches are kept and tried again, but nothing is delivered meanwhile",
            "Look at the server (for PostHog: status.posthog.com) and run this again.",
        )
    if not direct and not 200 <= status < 300:
        return warn(
            "network",
            f"{where} answers {status} to an empty request",
            "a Collector's OTLP receiver answers 200",
            "See what listens there; with `--send` a real item is tried.",
        )
    return ok("network", f"{where} answers")


def location_of(answer: Response) -> str:
    """Where a redirect leads, without what may be a secret."""
    from otel_posthog.config.endpoint import parse_endpoint

    try:
        return parse_endpoint(answer.headers.get("location", ""), "location").shown
    except ConfigError:
        return "somewhere else"


def _skew(where: str, answer: Response, clock: Clock) -> Iterator[Finding]:
    try:
        theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        return
    skew = clock.time() - theirs
    text = f"this machine's clock is {abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} {where}"
    why = "events carry this machine's time: they land at wrong hours and days, and retries may count twice"
    mend = "Synchronise the clock (chrony, systemd-timesyncd, or the host's clock for a container)."
    if abs(skew) >= SKEW_PROBLEM:
        yield problem("clock", text, why, mend)
    elif abs(skew) >= SKEW_WARN:
        yield warn("clock", text, why, mend)
    else:
        yield ok("clock", f"agrees with {where}")


def cors(app_url: str, origin: str, timeout: float) -> Iterator[Finding]:
    """Whether browsers may send the identity headers to the app: the preflight request that a browser would make.

    See the Fetch standard, "CORS protocol"; with credentials a `*` would not count, but none are sent here.
    """
    try:
        status, headers = bounded(lambda: _preflight(app_url, origin, timeout), timeout + 1)
    except (DeliveryError, TimeoutError) as error:
        yield problem(
            "CORS", f"{app_url}: {error}", "the app was not reached", "Start it, or give its address by --app-url."
        )
        return
    allowed_origin = headers.get("access-control-allow-origin", "")
    allowed = {name.strip().lower() for name in headers.get("access-control-allow-headers", "").split(",")}
    missing = [] if "*" in allowed else [name for name in CORS_HEADERS if name not in allowed]
    listed = ", ".join(CORS_HEADERS)
    if allowed_origin not in ("*", origin) or not 200 <= status < 300:
        yield problem(
            "CORS",
            f"{app_url} answers {status} to a preflight from {origin} and does not allow it",
            "browsers block every request from pages of that origin",
            f"Allow the origin and the headers {listed}; for Flask: CORS(app, origins=[{origin!r}], "
            f"allow_headers=[…, {', '.join(map(repr, CORS_HEADERS))}]).",
        )
    elif missing:
        yield problem(
            "CORS",
            f"{app_url} does not allow the headers {', '.join(missing)}",
            "browsers block requests with them, so server events lose the visitor's id, session or trace",
            f"Add them to Access-Control-Allow-Headers; for Flask: CORS(app, allow_headers=[…, "
            f"{', '.join(map(repr, missing))}]).",
        )
    else:
        yield ok("CORS", f"{app_url} allows {listed}")


def _preflight(url: str, origin: str, timeout: float) -> tuple[int, dict[str, str]]:
    from urllib3 import PoolManager, Timeout
    from urllib3.exceptions import HTTPError

    from otel_posthog.delivery.transport import classify, trusted_roots

    try:
        with PoolManager(ssl_context=trusted_roots() if url.startswith("https:") else None) as pool:
            answer = pool.request(
                "OPTIONS",
                url,
                headers={
                    "Origin": origin,
                    "Access-Control-Request-Method": "POST",
                    "Access-Control-Request-Headers": ",".join(sorted(CORS_HEADERS)),
                    "User-Agent": USER_AGENT,
                },
                timeout=Timeout(timeout),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}
    except (HTTPError, OSError, ValueError) as error:
        raise classify(error, url) from error


def send_event(
    lane: Lane, settings: Settings, clock: Clock, timeout: float, transport: Transport | None = None
) -> Iterator[Finding]:
    """Sends one personless test event through the real delivery and sees it accepted."""
    from otel_posthog.delivery.build import build_lane

    failures: list[str] = []
    config = replace(
        settings.delivery,
        flush_interval=0.01,
        timeout=min(settings.delivery.timeout, timeout),
        retry_initial=min(settings.delivery.retry_initial, timeout / 8),
        retry_max=min(settings.delivery.retry_max, timeout / 4),
        retry_elapsed=timeout,
        exit_timeout=0.5,
        spool_dir="",
    )
    where = without_query(lane.url)
    mend = "See the findings above; `otel-posthog status` shows the settings."
    why = "a real event would have met the same end"
    delivery = build_lane(
        lane, config, transport=transport, clock=clock, guard=lambda place, error: failures.append(f"{place}: {error}")
    )
    event = CaptureEvent(
        event=TEST_EVENT,
        distinct_id="otel-posthog-doctor",
        uuid=str(uuid.uuid4()),
        timestamp_ns=int(clock.time() * 1e9),
        properties={
            "$process_person_profile": False,
            "$geoip_disable": True,
            "$lib": "otel-posthog",
            "$lib_version": __version__,
        },
    )
    taken = delivery.submit([event])
    delivery.flush(timeout)
    stats = delivery.stats()
    delivery.shutdown(1.0)
    if stats.delivered == 1:
        known = " (PostHog answers so to unknown keys too: look for it in the Activity view)"
        yield ok(
            "test event",
            f"{where} accepted one {TEST_EVENT} event, uuid {event.uuid}" + known * (lane.mode is Mode.DIRECT),
        )
        return
    ends = [f"{count} {reason.value}" for group in (stats.lost, stats.dead_lettered) for reason, count in group.items()]
    said = stats.last_error or "; ".join(failures) or ("no answer in time" if taken else "delivery did not take it")
    yield problem(
        "test event", f"{where} did not accept the test event: {said}" + f" ({', '.join(ends)})" * bool(ends), why, mend
    )
