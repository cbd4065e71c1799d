"""The doctor's checks of what stands beside the lanes: flags, posthog-js, and a gateway where there is one.

Nothing is stored anywhere. `/flags` is the one address of PostHog's that says of a project key whether it knows it: the
capture API answers 200 to unknown keys, too.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

from otel_posthog.cli.findings import Finding, ok, problem, warn
from otel_posthog.cli.network_checks import USER_AGENT, bounded, location_of, network_mend
from otel_posthog.cli.status import without_query
from otel_posthog.config.browser import browser_target
from otel_posthog.config.environment import GATEWAY_ADMIN
from otel_posthog.config.flags import HOST, SECRET_KEY, FlagsTarget, flags_target
from otel_posthog.config.settings import Lane, Mode, Secret, Settings
from otel_posthog.delivery.protocols import Request, Response
from otel_posthog.delivery.transport import Urllib3Transport, classify
from otel_posthog.errors import DeliveryError

OTHER_REGION: Final[Mapping[str, str]] = {
    "https://us.i.posthog.com": "https://eu.i.posthog.com",
    "https://eu.i.posthog.com": "https://us.i.posthog.com",
}
_OURS: Final = "this gateway takes traces and logs"
"""What a gateway of ours says of metrics; a Collector takes them or has no such address."""
_ADMIN_PORT: Final = 8887
_MAX_FLAGS: Final = 64 * 2**20
"""Bytes: all flags of a project, with their payloads."""
_LOCAL_PATIENCE: Final = 2.0
_DEFAULTS_COUNT: Final = "every flag has its default"


def flags(settings: Settings, timeout: float, unreachable: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """Whether PostHog answers questions about flags, and knows the keys that they are asked with.

    Args:
        settings: Enabled.
        timeout: Seconds for each request.
        unreachable: Hosts of which that has been said already.
    """
    target, why = flags_target(settings)
    wanted = _set(settings, "flags.host", "flags.token", "flags.secret_key")
    if target is None:
        if wanted and settings.flags.enabled:
            yield _incomplete("flags", why, _DEFAULTS_COUNT)
        return
    if target.host in unreachable:
        return
    yield from _questions(target, timeout, wanted=bool(wanted))
    if target.secret_key:
        yield from _definitions(target, timeout)


def _questions(target: FlagsTarget, timeout: float, *, wanted: bool) -> Iterator[Finding]:
    where = without_query(target.host)
    # Without settings of their own nobody knows whether the app asks for flags at all.
    said = problem if wanted else warn
    try:
        answer = _ask_for_flags(target.host, target.token, _carrier(target), timeout)
    except (DeliveryError, TimeoutError) as error:
        yield said("flags", f"{where}: {error}", _DEFAULTS_COUNT, _mend(str(error), target))
        return
    found = _json(answer)
    if answer.status in (401, 403):
        yield _unknown_key(target, where, answer.status, timeout)
    elif answer.status == 200 and isinstance(found.get("flags"), dict):
        if "feature_flags" in (found.get("quotaLimited") or ()):
            mend = "Raise the billing limit in PostHog, or evaluate in the process with " + SECRET_KEY + "."
            yield said("flags", f"{where} answers that the project's quota is used up", _DEFAULTS_COUNT, mend)
        else:
            yield ok("flags", f"{where} knows the project key, and answers {_number(found['flags'], 'flag')}")
    else:
        yield said(
            "flags",
            f"{where} {_no_service(answer, 'is nobody who answers for flags')}",
            _DEFAULTS_COUNT,
            _host_mend(answer, HOST),
        )


def _unknown_key(target: FlagsTarget, where: str, status: int, timeout: float) -> Finding:
    what = f"{where} answers {status}: it does not know the project key"
    why = "every flag has its default, and events with an unknown key are answered 200 and discarded"
    other = OTHER_REGION.get(target.host, "")
    if other:
        try:
            there = _ask_for_flags(other, target.token, Urllib3Transport(), timeout)
        except (DeliveryError, TimeoutError):
            pass
        else:
            if there.status == 200:
                what += f", but {other} does"
                return problem("flags", what, why, f"The key is of the other region: set the endpoint to {other}/i.")
    return problem(
        "flags", what, why, "Copy the project API key (phc_…) anew from Settings → Project, and mind the region."
    )


def _ask_for_flags(host: str, token: Secret, carrier: Urllib3Transport, timeout: float) -> Response:
    headers = {"content-type": "application/json", "user-agent": USER_AGENT}
    body = json.dumps({"token": token.reveal(), "distinct_id": "otel-posthog-doctor"}).encode()
    request = Request(f"{host}/flags/?v=4", headers, body)
    return bounded(lambda: carrier.post(request, timeout=timeout), timeout + 1)


def _definitions(target: FlagsTarget, timeout: float) -> Iterator[Finding]:
    where = without_query(target.host)
    why = "no flag is evaluated in the process: each question goes to PostHog"
    url = f"{target.host}/flags/definitions?token={quote(target.token.reveal())}&send_cohorts"
    headers = {"authorization": f"Bearer {target.secret_key.reveal()}"}
    try:
        answer = _get(url, _carrier(target), timeout, headers)
    except (DeliveryError, TimeoutError) as error:
        yield problem("flags", f"definitions from {where}: {error}", why, _mend(str(error), target))
        return
    if answer.status == 200 and "html" not in _type(answer):
        listed = _json(answer).get("flags")
        many = f", {_number(cast('list[Any]', listed), 'flag')}" if isinstance(listed, list) else ""
        yield ok("flags", f"{where} takes the key for local evaluation{many}")
    elif answer.status in (401, 403):
        yield problem(
            "flags",
            f"{where} answers {answer.status}: it does not take the key for local evaluation",
            why,
            f"Set {SECRET_KEY} to a personal key (phx_…) that may read feature flags, or a secret key (phs_…), of the "
            "project whose API key it stands beside.",
        )
    elif answer.status == 402:
        mend = "Raise the billing limit in PostHog, or ask less often: OTEL_POSTHOG_FLAGS_POLL_INTERVAL."
        yield problem("flags", f"{where} answers that the project's quota is used up", why, mend)
    else:
        yield problem(
            "flags", f"{where} {_no_service(answer, 'are no definitions of flags')}", why, _host_mend(answer, HOST)
        )


def browser(settings: Settings, timeout: float, unreachable: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """Whether posthog-js is where pages look for it; with a relay, whether the app finds it there.

    Args:
        settings: Enabled.
        timeout: Seconds for the request.
        unreachable: Hosts of which that has been said already.
    """
    target, missing = browser_target(settings)
    wanted = _set(settings, "browser.")
    if target is None:
        if wanted and settings.browser.enabled:
            yield _incomplete("browser", missing, "nothing is written into pages")
        return
    own = settings.browser.script
    script = own if own.startswith(("http://", "https://")) else f"{target.assets}/static/array.js"
    if target.host in unreachable or (own and script != own):
        return  # a path on the app's own origin, which this command does not know
    # Whether there are pages at all, nobody knows.
    said, why = (problem if wanted else warn), "pages load no posthog-js, so browsers capture nothing"
    lane = next((lane for lane in (settings.lane, settings.also) if lane and lane.url == target.host), None)
    carrier = Urllib3Transport(ca_file=lane.ca_file) if lane and target.assets == target.host else Urllib3Transport()
    shown = without_query(script)
    try:
        answer = _get(script, carrier, timeout)
    except (DeliveryError, TimeoutError) as error:
        yield said("browser", f"{shown}: {error}", why, network_mend(str(error)))
        return
    if answer.status == 200 and "html" not in _type(answer):
        yield ok("browser", f"{shown} answers")
        return
    mend = _host_mend(answer, "OTEL_POSTHOG_BROWSER_HOST (or OTEL_POSTHOG_BROWSER_SCRIPT)")
    if answer.status == 404:
        mend += " The local PostHog has it with `otel-posthog emulator --posthog-js FOLDER`."
    yield said("browser", f"{shown} {_no_service(answer, 'is no posthog-js')}", why, mend)


def gateway(lane: Lane, environ: Mapping[str, str], timeout: float) -> Iterator[Finding]:
    """Whether it is a gateway of ours that answers, and whether that is ready; nothing is said of others.

    Args:
        lane: Of collector mode; its server has answered.
        environ: Where the gateway's admin address may stand, if it runs on this machine.
        timeout: Seconds for each request.
    """
    base = lane.url.partition("?")[0].rstrip("/")
    if lane.mode is not Mode.COLLECTOR or not base.endswith("/v1/logs"):
        return
    base = base.removesuffix("/v1/logs")
    headers = {name: value.reveal() for name, value in lane.headers.items()}
    headers |= {"authorization": f"Bearer {lane.token.reveal()}"} if lane.token else {}
    headers |= {"content-type": "application/json", "user-agent": USER_AGENT}
    carrier = Urllib3Transport(ca_file=lane.ca_file, client_cert=lane.client_cert, client_key=lane.client_key)
    try:
        # An empty request; whoever takes metrics has nothing to store.
        request = Request(f"{base}/v1/metrics", headers, b"{}")
        answer = bounded(lambda: carrier.post(request, timeout=timeout), timeout + 1)
    except (DeliveryError, TimeoutError):
        return
    if answer.status != 200 or _OURS not in str(_json(answer).get("partialSuccess")):
        return
    where = without_query(base)
    yield ok("gateway", f"{where} is an otel-posthog gateway, and takes the token")
    yield from _readiness(where, urlsplit(base).hostname or "", environ, min(timeout, _LOCAL_PATIENCE))


def _readiness(where: str, host: str, environ: Mapping[str, str], timeout: float) -> Iterator[Finding]:
    admin = environ.get(GATEWAY_ADMIN, "").strip()
    if admin == "off":
        return
    door = admin or f"{f'[{host}]' if ':' in host else host}:{_ADMIN_PORT}"
    try:
        answer = _get(f"http://{door}/readyz?verbose", Urllib3Transport(), timeout)
    except (DeliveryError, TimeoutError):
        # As a rule it listens on the gateway's own machine alone.
        yield ok("gateway", f"its health is not seen from here: `otel-posthog gateway --healthcheck` beside {where}")
        return
    reasons = "; ".join(line.strip() for line in answer.body.decode("utf-8", "replace").splitlines() if line.strip())
    if answer.status == 200:
        yield ok("gateway", f"{door} says that it is ready")
    elif answer.status == 503:
        yield problem(
            "gateway",
            f"{door} says that it is not ready: {reasons[:300]}",
            "what it takes it keeps, and some of it does not reach PostHog until that is mended",
            "Mend what it names; docs/gateway.md has every reason.",
        )


def _get(url: str, carrier: Urllib3Transport, timeout: float, headers: Mapping[str, str] | None = None) -> Response:
    """One GET by the connections and the proxies of deliveries.

    Raises:
        DeliveryError: No answer.
        TimeoutError: None in time.
    """
    return bounded(lambda: _got(url, carrier, timeout, {"user-agent": USER_AGENT, **(headers or {})}), timeout + 1)


def _got(url: str, carrier: Urllib3Transport, timeout: float, headers: dict[str, str]) -> Response:
    from urllib3 import Timeout

    carrier._deadline.at = time.monotonic() + timeout
    route = carrier._route(url)
    try:
        answer = route.pool.urlopen(
            "GET",
            route.target,
            headers=headers,
            timeout=Timeout(connect=timeout, read=timeout),
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
            assert_same_host=False,
        )
        body, _ = carrier._read(answer)
        answer.close()
    except route.failures as error:
        raise classify(error, url) from error
    return Response(answer.status, {name.lower(): value for name, value in answer.headers.items()}, body)


def _carrier(target: FlagsTarget) -> Urllib3Transport:
    """Trusts what the client for flags trusts, which is PostHog's SDK over `requests`."""
    roots = target.ca_file or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or ""
    if not roots:
        try:
            import certifi
        except ImportError:
            pass
        else:
            roots = certifi.where()
    return Urllib3Transport(
        ca_file=roots if Path(roots).exists() else "",
        client_cert=target.client_cert,
        client_key=target.client_key,
        max_answer_bytes=_MAX_FLAGS,
    )


def _mend(text: str, target: FlagsTarget) -> str:
    if "certificate" in text and not target.ca_file:
        return "Set REQUESTS_CA_BUNDLE to the PEM file of your CA, and check this machine's clock."
    return network_mend(text)


def _host_mend(answer: Response, variable: str) -> str:
    if answer.status == 429 or answer.status >= 500:
        return "Look at the server (for PostHog: status.posthog.com) and run this again."
    return f"Set {variable} to PostHog's own address: https://us.i.posthog.com or https://eu.i.posthog.com, or yours."


def _no_service(answer: Response, what: str) -> str:
    if 300 <= answer.status < 400:
        return f"answers {answer.status}, a redirect to {location_of(answer)}"
    if answer.status == 429 or answer.status >= 500:
        return f"answers {answer.status}"
    return f"answers {answer.status}" + " with a web page" * ("html" in _type(answer)) + f": there {what}"


def _incomplete(check: str, missing: str, why: str) -> Finding:
    what, _, mend = missing.rpartition(": ")
    return problem(check, what or missing, why, f"{mend[:1].upper()}{mend[1:]}.")


def _set(settings: Settings, *names: str) -> list[str]:
    return [name for name, source in settings.sources.items() if name.startswith(names) and source != "default"]


def _json(answer: Response) -> dict[str, Any]:
    try:
        found: object = json.loads(answer.body)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _type(answer: Response) -> str:
    return answer.headers.get("content-type", "")


def _number(found: Any, what: str) -> str:
    return f"{len(found)} {what}{'s' * (len(found) != 1)}"


Check = Callable[[Settings, float, "frozenset[str]"], Iterator[Finding]]
BESIDE: Final[tuple[Check, ...]] = (flags, browser)
"""What is looked at for each environment, after the lanes."""
