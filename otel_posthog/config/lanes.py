"""Which endpoint is whose, and which lanes follow: product data, standard traces, standard logs (decision 0001).

Everything here is a pure function of the environment, the `endpoint` argument and the chosen mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from otel_posthog.config import environment as names
from otel_posthog.config.certificates import TlsFiles, check_tls_files, own_variable, tls_files
from otel_posthog.config.endpoint import INGESTION_HOSTS, SIGNAL_SUFFIX, Endpoint, collector_logs_url, parse_endpoint
from otel_posthog.config.headers import Credential, parse_credential, parse_headers, secrets
from otel_posthog.config.settings import Lane, Mode, Secret
from otel_posthog.config.values import is_true, text_of
from otel_posthog.errors import ConfigError
from otel_posthog.model.frozen import frozen

_ORDER_DIRECT = ("", "logs", "traces", "metrics")
_ORDER_COLLECTOR = ("logs", "", "traces", "metrics")


@frozen
class Plan:
    """What the endpoints come to.

    Args:
        sources: Variables and arguments that name an endpoint, readable or not.
        mode: Mode of the product lane; `None` without a readable endpoint.
        lane_endpoint: Where product data goes, before it is turned into an address.
        other_endpoint: Where a second lane could go: PostHog beside a Collector lane, or the other way round.
        argument: The endpoint came as an argument.
        standard: Endpoints of the environment, which the standard exporters use, by signal; "" is the base.
        chosen: What `OTEL_POSTHOG_MODE` says, if anything.
        declared_origin: Origin that `OTEL_POSTHOG_MODE=direct` declares to be PostHog's; "" for none.
        both: `OTEL_POSTHOG_SINK=both`: the other endpoint becomes a lane too.
        foreign_authorization: A headers variable with an authorization that does not count; "" for none.
        errors: What is wrong with endpoints, to be raised if the gate is open.
    """

    sources: tuple[str, ...] = ()
    mode: Mode | None = None
    lane_endpoint: Endpoint | None = None
    other_endpoint: Endpoint | None = None
    argument: bool = False
    standard: Mapping[str, Endpoint] = field(default_factory=dict[str, Endpoint])
    chosen: Mode | None = None
    declared_origin: str = ""
    both: bool = False
    foreign_authorization: str = ""
    errors: tuple[ConfigError, ...] = ()

    def mode_of(self, endpoint: Endpoint) -> Mode:
        """Whose an endpoint is: PostHog's (direct) or a Collector's."""
        return _mode_of(endpoint, self.chosen, self.declared_origin)

    @property
    def token_endpoint(self) -> Endpoint | None:
        """The endpoint whose token it is: the lane's, and PostHog's where there are two lanes."""
        return self.other_endpoint if self.both and self.mode is Mode.COLLECTOR else self.lane_endpoint

    @property
    def token_mode(self) -> Mode | None:
        """Whether the token is PostHog's key (direct) or a Collector's."""
        return self.mode_of(self.token_endpoint) if self.token_endpoint else self.mode

    def carries_token(self, endpoint: Endpoint) -> bool:
        """Whether the token may be sent to an endpoint: only where it belongs, so never to a stranger beside it."""
        owner = self.token_endpoint
        if owner is None or self.mode_of(endpoint) is not self.token_mode:
            return False
        if self.token_mode is Mode.DIRECT:
            return endpoint.capture_host == owner.capture_host
        return endpoint.host == owner.host

    def standard_endpoint(self, signal: str) -> Endpoint | None:
        """Where the standard exporter of a signal sends; `None` where nothing was configured."""
        return self.standard.get(signal) or self.standard.get("")

    def standard_mode(self, environ: Mapping[str, str], signal: str) -> Mode | None:
        """Mode of a signal's standard telemetry, `None` where it is not exported by OTLP to a configured endpoint."""
        endpoint = self.standard_endpoint(signal)
        return self.mode_of(endpoint) if endpoint and exports_otlp(environ, signal) else None


def exports_otlp(environ: Mapping[str, str], signal: str) -> bool:
    """Whether a signal has an OTLP exporter; unset counts as one, since every distro's default is `otlp`."""
    listed = text_of(environ, names.exporter_variable(signal))
    if not listed or text_of(environ, names.CONFIG_FILE):
        return True
    return any(name.strip().lower().startswith("otlp") for name in listed.split(","))


def protocol_of(environ: Mapping[str, str], signal: str) -> str:
    """The protocol of a signal's OTLP exporter as configured, lower case; "" where nothing is."""
    own = text_of(environ, names.signal_variable(signal, "PROTOCOL")) if signal else ""
    return (own or text_of(environ, names.PROTOCOL)).lower()


def headers_variable(environ: Mapping[str, str], signal: str) -> str:
    """The variable whose headers a signal's exporter sends: its own instead of the general one, never both."""
    return own_variable(environ, signal, "HEADERS")


def _mode_of(endpoint: Endpoint, chosen: Mode | None, declared_origin: str) -> Mode:
    if endpoint.on_posthog_host:
        return Mode.DIRECT
    if chosen is Mode.COLLECTOR:
        return Mode.COLLECTOR
    if endpoint.has_posthog_path or (declared_origin and endpoint.origin == declared_origin):
        return Mode.DIRECT
    return Mode.COLLECTOR


def _lane_mode(chosen: Mode | None, posthog: bool) -> Mode:
    return chosen or (Mode.DIRECT if posthog else Mode.COLLECTOR)


def _read(
    environ: Mapping[str, str], text: str, source: str, signal: str, errors: list[ConfigError]
) -> Endpoint | None:
    grpc = protocol_of(environ, signal or "logs") == "grpc"
    insecure = is_true(environ.get(names.INSECURE) or "")
    try:
        return parse_endpoint(text, source, signal, grpc=grpc, insecure=insecure)
    except ConfigError as error:
        errors.append(error)
        return None


def plan_lanes(
    environ: Mapping[str, str], argument: str | None = None, chosen: Mode | None = None, *, both: bool = False
) -> Plan:
    """Reads all endpoints and says whose they are and which one product data uses.

    Args:
        environ: The environment.
        argument: The `endpoint` argument; it decides the product lane alone.
        chosen: `OTEL_POSTHOG_MODE`, if set.
        both: `OTEL_POSTHOG_SINK` asks for both lanes.
    """
    errors: list[ConfigError] = []
    standard_sources: list[str] = []
    standard: dict[str, Endpoint] = {}
    for signal in _ORDER_DIRECT:
        variable = names.signal_variable(signal, "ENDPOINT") if signal else names.ENDPOINT
        text = text_of(environ, variable)
        if not text:
            continue
        standard_sources.append(variable)
        endpoint = _read(environ, text, variable, signal, errors)
        if endpoint:
            standard[signal] = endpoint
    candidates, sources = standard, standard_sources
    given = (argument or "").strip()
    if given:
        # The standard exporters still read the environment, so its errors are theirs.
        errors.clear()
        endpoint = _read(environ, given, "argument endpoint", "", errors)
        candidates, sources = dict[str, Endpoint](), ["argument endpoint"]
        if endpoint:
            candidates[""] = endpoint

    posthog = any(_mode_of(each, chosen, "") is Mode.DIRECT for each in candidates.values())
    declared = ""
    if chosen is Mode.DIRECT and not posthog:
        first = next((candidates[signal] for signal in _ORDER_DIRECT if signal in candidates), None)
        declared = first.origin if first else ""
        posthog = first is not None
    mode = _lane_mode(chosen, posthog) if candidates else None

    def first_of(wanted: Mode) -> Endpoint | None:
        order = _ORDER_DIRECT if wanted is Mode.DIRECT else _ORDER_COLLECTOR
        found = (candidates[signal] for signal in order if signal in candidates)
        return next((each for each in found if _mode_of(each, chosen, declared) is wanted), None)

    lane = first_of(mode) if mode is not None else None
    if mode is Mode.COLLECTOR and not lane:
        errors.append(
            ConfigError(
                "collector mode needs a Collector, and every endpoint is PostHog's",
                key="OTEL_POSTHOG_MODE",
                hint="Leave it unset, or set OTEL_EXPORTER_OTLP_ENDPOINT to the Collector's address",
            )
        )
    opposite = Mode.COLLECTOR if mode is Mode.DIRECT else Mode.DIRECT
    other = first_of(opposite) if mode is not None else None
    if both and lane and not other:
        missing = "a Collector" if mode is Mode.DIRECT else "PostHog"
        errors.append(
            ConfigError(
                f"`both` needs an endpoint at PostHog and one at a Collector, and none is at {missing}",
                key="OTEL_POSTHOG_SINK",
                hint="Set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT to the one and OTEL_EXPORTER_OTLP_LOGS_ENDPOINT to the "
                "other, or leave `both` out",
            )
        )
    plan = Plan(
        sources=tuple(sources),
        mode=mode,
        lane_endpoint=lane,
        other_endpoint=other,
        argument=bool(given),
        standard=standard,
        chosen=chosen,
        declared_origin=declared,
        both=both and other is not None,
        errors=tuple(errors),
    )
    return _with_foreign_authorization(environ, plan)


def _users(plan: Plan, endpoint: Endpoint) -> tuple[str, ...]:
    """The signals whose exporters' settings hold for this endpoint, the logs' first; "" is the general form alone."""
    if plan.argument:
        # An argument stands outside the environment, whose headers and files ride along only to the same place.
        strangers = any(each.origin != endpoint.origin for each in plan.standard.values())
        return () if strangers else ("logs",)
    if endpoint.signal:
        return (endpoint.signal,)
    return (*(each for each in ("logs", "traces", "metrics") if plan.standard_endpoint(each) is endpoint), "")


def _header_variables(environ: Mapping[str, str], plan: Plan, endpoint: Endpoint) -> tuple[str, ...]:
    """The headers variables whose entries the standard exporters would send to this endpoint."""
    return tuple(dict.fromkeys(headers_variable(environ, signal) for signal in _users(plan, endpoint)))


def _files(environ: Mapping[str, str], plan: Plan, endpoint: Endpoint, url: str) -> TlsFiles:
    """The TLS files that the standard exporters would use with this endpoint; none without TLS.

    Raises:
        ConfigError: One cannot be used.
    """
    files = tls_files(environ, _users(plan, endpoint) if url.startswith("https:") else ())
    check_tls_files(files)
    return files


def _authorization(environ: Mapping[str, str], plan: Plan, endpoint: Endpoint) -> tuple[str, str]:
    """Value and variable of the authorization that goes to an endpoint; two empty texts for none."""
    for variable in _header_variables(environ, plan, endpoint):
        value = parse_headers(text_of(environ, variable)).get("authorization", "")
        if value:
            return value, variable
    return "", ""


def _with_foreign_authorization(environ: Mapping[str, str], plan: Plan) -> Plan:
    endpoint = plan.token_endpoint
    if endpoint is None or endpoint.on_posthog_host or plan.chosen is not None:
        return plan
    _, variable = _authorization(environ, plan, endpoint)
    if not variable:
        return plan
    from dataclasses import replace

    return replace(plan, foreign_authorization=variable)


def find_credential(environ: Mapping[str, str], argument: str | None, plan: Plan) -> Credential | None:
    """The token: argument, then `OTEL_EXPORTER_OTLP_TOKEN`, then an authorization header where it counts.

    An authorization header counts only where it would be sent anyway, and there only if the host is PostHog's own or
    `OTEL_POSTHOG_MODE` says that this package is meant (decision 0001).
    """
    if argument and (found := parse_credential(argument, "argument token")):
        return found
    if found := parse_credential(text_of(environ, names.TOKEN), names.TOKEN):
        return found
    endpoint = plan.token_endpoint
    if endpoint is None or not (endpoint.on_posthog_host or plan.chosen is not None):
        return None
    value, variable = _authorization(environ, plan, endpoint)
    return parse_credential(value, variable, verbatim=True) if value else None


def lane_for(
    environ: Mapping[str, str], plan: Plan, endpoint: Endpoint, credential: Credential
) -> tuple[Lane, tuple[str, ...]]:
    """The lane to an endpoint, and warnings about it.

    Raises:
        ConfigError: No address follows from the endpoint, or a TLS file cannot be used.
    """
    warnings = list(_endpoint_warnings(endpoint))
    direct = plan.mode_of(endpoint) is Mode.DIRECT
    if direct:
        url, warning = endpoint.capture_host, ""
    else:
        url, warning = collector_logs_url(endpoint, grpc=protocol_of(environ, endpoint.signal or "logs") == "grpc")
    files = _files(environ, plan, endpoint, url)
    warnings.extend(text for text in (warning, files.warning) if text)

    def lane(mode: Mode, token: Secret, sent: Mapping[str, Secret]) -> Lane:
        return Lane(mode, url, token, sent, files.ca_file, files.client_cert, files.client_key)

    if direct:
        return lane(Mode.DIRECT, credential.token, {}), tuple(warnings)
    headers: dict[str, str] = {}
    for variable in reversed(_header_variables(environ, plan, endpoint)):
        headers.update(parse_headers(text_of(environ, variable)))
    own = headers.pop("authorization", "")
    rest = secrets(headers)
    # With PostHog beside a Collector the token is PostHog's: it never goes to the Collector (decision 0001).
    authorization = credential.authorization.reveal() if plan.carries_token(endpoint) else own
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer" and value:
        return lane(Mode.COLLECTOR, Secret(value.strip()), rest), tuple(warnings)
    if authorization:
        rest["authorization"] = Secret(authorization)
    return lane(Mode.COLLECTOR, Secret(""), rest), tuple(warnings)


def _endpoint_warnings(endpoint: Endpoint) -> list[str]:
    found: list[str] = []
    if endpoint.credentials:
        found.append(f"the user and password in {endpoint.source} are not used for product data; the token is")
    if not endpoint.on_posthog_host:
        return found
    ingestion = endpoint.capture_host
    if endpoint.scheme == "http":
        found.append(f"{endpoint.source} is plain http, and PostHog answers on https only; using {ingestion}")
    host = ingestion.partition("://")[2].partition(":")[0]
    if host not in INGESTION_HOSTS:
        found.append(
            f"{endpoint.source} names {endpoint.host}, which is not a known ingestion host of PostHog; "
            "write https://us.i.posthog.com/i or https://eu.i.posthog.com/i"
        )
    elif host != endpoint.host:
        found.append(f"{endpoint.source} names PostHog's app host {endpoint.host}; using its ingestion host {host}")
    if SIGNAL_SUFFIX.search(endpoint.path) and not endpoint.signal:
        found.append(f"{endpoint.source} ends in a signal's path, but is a base; write {endpoint.posthog_otlp_base}")
    return found


def standard_warnings(environ: Mapping[str, str], plan: Plan) -> list[str]:
    """What will not work with the standard exporters' own configuration."""
    found: list[str] = []
    for signal in ("traces", "logs"):
        endpoint = plan.standard_endpoint(signal)
        if endpoint is None or plan.standard_mode(environ, signal) is not Mode.DIRECT:
            continue
        if protocol_of(environ, signal) == "grpc":
            found.append(
                f"the standard {signal} are configured for gRPC, which PostHog does not speak; "
                f"set {names.PROTOCOL}=http/protobuf"
            )
    regions = {
        each.capture_host for each in plan.standard.values() if plan.mode_of(each) is Mode.DIRECT and not plan.argument
    }
    if len(regions) > 1:
        found.append(
            f"endpoints name several PostHog hosts ({', '.join(sorted(regions))}); a project is on one of them"
        )
    return found
