"""`load_gateway_settings`: from `bridge.yaml`, the environment and the command line to one frozen `GatewaySettings`.

Everything that can be known to be wrong is said here, all of it at once, each with file, line, key and the way out:
a gateway that has started has a host, a key, rules and certificates that can be used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from otel_posthog.config import environment as names
from otel_posthog.config.endpoint import parse_endpoint
from otel_posthog.config.headers import parse_credential, token_problem
from otel_posthog.config.loopback import is_loopback
from otel_posthog.config.settings import ConvertConfig, DeliveryConfig, Lane, Mode, Secret
from otel_posthog.config.values import shown, text_of
from otel_posthog.errors import ConfigError
from otel_posthog.gateway.configuration.bridge_compounds import Listener, Source
from otel_posthog.gateway.configuration.bridge_schema import FILE
from otel_posthog.gateway.configuration.bridge_types import Complaints
from otel_posthog.gateway.configuration.caller_tokens import credentials_of
from otel_posthog.gateway.configuration.hosts import capture_host
from otel_posthog.gateway.configuration.project_rules import ProjectRules, load_project_rules
from otel_posthog.gateway.configuration.reload import Signature, signature_of
from otel_posthog.gateway.configuration.settings import (
    DEFAULT_ADMIN,
    DEFAULT_SENDERS,
    GATEWAY_DELIVERY,
    GatewaySettings,
    LimitSettings,
    LogSettings,
    MatchSettings,
    ProjectSettings,
    SelfMetricsSettings,
    SpoolSettings,
    TokenSettings,
)
from otel_posthog.gateway.receivers.settings import Listen, ReceiverSettings, TlsSettings
from otel_posthog.model.frozen import frozen
from otel_posthog.rules.at import At
from otel_posthog.rules.document import Node, read_document
from otel_posthog.rules.engine import RuleSet

MAX_SECRET_BYTES: Final = 64 * 1024
_HTTP_PORT: Final = 4318
_GRPC_PORT: Final = 4317


class BridgeFileError(ConfigError):
    """The configuration of the gateway cannot be used.

    Args:
        errors: Everything that is wrong with it; not empty.
        files: Every file that was read, or that it asks for, and how it looked.
    """

    def __init__(self, errors: list[ConfigError], files: Mapping[str, Signature | None] | None = None) -> None:
        self.errors = tuple(errors)
        self.files = dict(files or {})
        Exception.__init__(self, "\n".join(str(error) for error in errors))
        self.key, self.source, self.hint = errors[0].key, errors[0].source, errors[0].hint


@frozen
class Overrides:
    """What the command line says; it beats the file and the environment. `None` where it says nothing.

    Args:
        http: Where to listen for OTLP over HTTP: an address, or `off`.
        grpc: The same for gRPC.
        admin: The same for health and metrics.
        workers: Processes; 0 for one per core.
        acknowledge: `spool` or `forward`.
        spool_dir: Folder of the spool.
        log_format: `text` or `json`.
        log_level: The least that is said.
    """

    http: str | None = None
    grpc: str | None = None
    admin: str | None = None
    workers: int | None = None
    acknowledge: str | None = None
    spool_dir: str | None = None
    log_format: str | None = None
    log_level: str | None = None


def load_gateway_settings(
    path: str = "", environ: Mapping[str, str] | None = None, overrides: Overrides | None = None
) -> GatewaySettings:
    """Reads and checks everything; opens no socket and writes nothing.

    Args:
        path: `bridge.yaml`; "" for `OTEL_POSTHOG_GATEWAY_CONFIG`, and without that the environment alone.
        environ: The environment; the process's own by default.
        overrides: The command line.

    Raises:
        BridgeFileError: Something is wrong; it lists all of it.
    """
    environment = os.environ if environ is None else environ
    path = path or text_of(environment, names.GATEWAY_CONFIG)
    complaints = Complaints(path or "the environment")
    # Before the first byte is read: what changes from here on is a change.
    seen = {found: signature_of(found)} if (found := str(Path(path).expanduser()) if path else "") else {}
    at = At(Node({}))
    if path:
        try:
            root, _ = read_document(path, what="configuration file", hint="Mend the path, or its permissions")
        except ConfigError as error:
            raise BridgeFileError([error], seen) from None
        at = At(Node({}, 1) if root.value is None else root, "", root.line)
    return _Loader(at, path, environment, overrides or Overrides(), complaints, seen).settings()


class _Loader:
    """One load: the values that were read, the files that were opened, what is wrong."""

    def __init__(
        self,
        at: At,
        path: str,
        environ: Mapping[str, str],
        overrides: Overrides,
        complaints: Complaints,
        files: dict[str, Signature | None],
    ) -> None:
        self._environ = environ
        self._overrides = overrides
        self._complaints = complaints
        self._at = at
        self._path = path
        self._folder = Path(path).expanduser().parent if path else Path()
        self._files = files
        self._warnings: list[str] = []
        self._values = FILE.read(at, complaints, ignore="x-")

    def settings(self) -> GatewaySettings:
        values = self._values
        tokens, held = self._tokens()
        receivers, admin = self._listeners(bool(tokens))
        limits = self._fill(LimitSettings(), values.get("limits", {}), ("request_bytes", "inflight_bytes"))
        if limits.inflight_bytes < limits.request_bytes:
            self._complain("limits.inflight_bytes", "it is smaller than one request may be", "Raise it")
        projects = self._projects(tuple(dict.fromkeys(token.caller for token in tokens)))
        settings = GatewaySettings(
            source=self._path or "the environment",
            projects=projects,
            default_project=self._default(projects),
            spool=self._spool(),
            tokens=tokens,
            values=held,
            receivers=receivers,
            admin=admin,
            admin_token=self._admin_token(),
            limits=limits,
            acknowledge=self._said("acknowledge", names.GATEWAY_ACKNOWLEDGE, ("spool", "forward"), "spool"),
            workers=self._workers(),
            reload=values.get("reload", "auto"),
            drain_timeout=values.get("drain_timeout", 10.0),
            log=self._log(),
            self_metrics=self._self_metrics(),
            files=tuple(self._files),
            seen=tuple(self._files.values()),
            warnings=tuple(self._warnings),
        )
        if self._complaints.found:
            raise BridgeFileError(self._complaints.found, self._files)
        return settings

    # --- complaints ------------------------------------------------------------------------------------------------

    def _complain(self, key: str, message: str, hint: str = "") -> None:
        self._complaints.add(message, below(self._at, *key.split(".")), hint)

    def _take_over(self, error: ConfigError, at: At) -> None:
        """Takes over another room's complaint, with our file and line."""
        message = str(error).removeprefix(f"`{error.key}`: ") if error.key else str(error)
        self._complaints.add(message.rstrip("."), at)

    # --- values ----------------------------------------------------------------------------------------------------

    def _fill(self, start: Any, values: Mapping[str, Any], fields: tuple[str, ...]) -> Any:
        return replace(start, **{name: values[name] for name in fields if name in values})

    def _said(self, key: str, variable: str, words: tuple[str, ...], default: str) -> Any:
        """A word from the command line, the environment or the file."""
        for word, source in ((getattr(self._overrides, key, None), f"--{key}"), (self._env(variable), variable)):
            if word:
                if word not in words:
                    self._complaints.found.append(
                        ConfigError(f"{shown(word)} is not known", key=source, hint=f"Use one of {', '.join(words)}")
                    )
                return word
        return self._values.get(key, default)

    def _env(self, variable: str) -> str:
        return text_of(self._environ, variable)

    def _resolve(self, text: str) -> str:
        """A path as it is written, seen from the file that it is written in."""
        return str(self._folder / Path(text).expanduser())

    def _watched(self, text: str) -> str:
        path = self._resolve(text)
        self._files.setdefault(path, signature_of(path))
        return path

    def _workers(self) -> int:
        if self._overrides.workers is not None:
            return self._overrides.workers
        text = self._env(names.GATEWAY_WORKERS)
        if not text:
            return self._values.get("workers", 1)
        if text == "auto" or (text.isascii() and text.isdigit() and 1 <= int(text) <= 256):
            return 0 if text == "auto" else int(text)
        self._complaints.found.append(
            ConfigError(
                f"{shown(text)} is no number of workers", key=names.GATEWAY_WORKERS, hint="Use 1 to 256, or auto"
            )
        )
        return 1

    def _log(self) -> LogSettings:
        log = self._fill(LogSettings(), self._values.get("log", {}), ("format", "level"))
        chosen = self._overrides.log_format or self._env(names.GATEWAY_LOG)
        if chosen and chosen not in ("text", "json"):
            self._complaints.found.append(
                ConfigError(f"{shown(chosen)} is not known", key=names.GATEWAY_LOG, hint="Use text or json")
            )
        return replace(log, format=chosen or log.format, level=self._overrides.log_level or log.level)

    def _self_metrics(self) -> SelfMetricsSettings | None:
        values = self._values.get("self_metrics")
        if values is None:
            return None
        endpoint: str = values.get("endpoint", "http://localhost:4318")  # where it is missing, that has been said
        try:
            parse_endpoint(endpoint, "self_metrics.endpoint")
        except ConfigError as error:
            self._take_over(error, below(self._at, "self_metrics", "endpoint"))
        headers: dict[str, Secret] = {}
        sources: Mapping[str, tuple[Source, At]] = values.get("headers", {})
        for name, (source, _) in sources.items():
            text = self._secret(source)
            if not (text.isascii() and text.isprintable()):
                self._complaints.add("it is no value that a header can carry", source.at, "Use printable ASCII")
            headers[name] = Secret(text)
        return SelfMetricsSettings(endpoint, headers, values.get("interval", 60.0))

    def _spool(self) -> SpoolSettings:
        values = self._values.get("spool", {})
        folder = self._overrides.spool_dir or (
            self._resolve(values["dir"]) if "dir" in values else self._env("OTEL_POSTHOG_SPOOL_DIR")
        )
        spool = SpoolSettings(str(Path(folder).expanduser()) if folder else default_spool(self._environ))
        return self._fill(spool, values, ("max_bytes", "dead_letter_bytes"))

    # --- listeners -------------------------------------------------------------------------------------------------

    def _listeners(self, credentials: bool) -> tuple[ReceiverSettings, Listen | None]:
        values: Mapping[str, Any] = self._values.get("listen", {})
        tls = self._tls()
        identified = credentials or (tls is not None and tls.client_ca_file is not None)
        # A gateway whose callers are known is there for others; one that takes from anybody is there for this machine.
        host = "0.0.0.0" if identified else "127.0.0.1"  # noqa: S104 - as the comment says
        http = self._listen("http", values, names.GATEWAY_HTTP, Listen(host, _HTTP_PORT))
        grpc = self._listen("grpc", values, names.GATEWAY_GRPC, Listen(host, _GRPC_PORT))
        admin = self._listen("admin", values, names.GATEWAY_ADMIN, DEFAULT_ADMIN)
        if http is None and grpc is None:
            self._complain("listen", "there is nothing to listen on", "Remove one `off`")
        taken: dict[tuple[str, int], str] = {}
        for name, address in (("http", http), ("grpc", grpc), ("admin", admin)):
            if address is not None and address.port:
                other = taken.setdefault((address.host, address.port), name)
                if other != name:
                    self._complain(f"listen.{name}", f"{address} is taken by `listen.{other}`", "Choose another port")
        if not identified and not values.get("allow_unauthenticated"):
            for name, address in (("http", http), ("grpc", grpc)):
                if address is not None and not is_loopback(address.host):
                    self._complain(
                        f"listen.{name}",
                        f"{address} is reachable from other machines, and callers need no token",
                        f"Add `tokens:` (or {names.GATEWAY_TOKENS}) or `tls.client_ca`, listen on 127.0.0.1, or set "
                        "`listen.allow_unauthenticated: true` where the network itself keeps strangers out",
                    )
        if (
            credentials
            and tls is None
            and any(each is not None and not is_loopback(each.host) for each in (http, grpc))
        ):
            self._warnings.append(
                "tokens arrive in plain text: set `tls`, unless a proxy or a mesh in front of the gateway encrypts"
            )
        limits: Mapping[str, Any] = self._values.get("limits", {})
        named = {
            "request_bytes": "max_body",
            "connections": "max_connections",
            "connections_per_peer": "max_connections_per_peer",
            "header_timeout": "header_timeout",
            "body_timeout": "body_timeout",
            "idle_timeout": "idle_timeout",
            "answer_timeout": "answer_timeout",
            "grpc_threads": "grpc_threads",
        }
        receivers = ReceiverSettings(
            http=http,
            grpc=grpc,
            http_tls=tls,
            grpc_tls=tls,
            **{field: limits[key] for key, field in named.items() if key in limits},
        )
        return receivers, admin

    def _listen(self, name: str, values: Mapping[str, Any], variable: str, default: Listen) -> Listen | None:
        for text, source in ((getattr(self._overrides, name), f"--{name}"), (self._env(variable), variable)):
            if text:
                own = Complaints(source)
                found: tuple[str, int] | None = Listener().read(At(Node(text), source), own)
                self._complaints.found.extend(
                    ConfigError(str(error).partition(": ")[2], key=source) for error in own.found
                )
                return Listen(*found) if found is not None and not own.found else None
        if name not in values:
            return default
        return Listen(*values[name]) if values[name] is not None else None

    def _tls(self) -> TlsSettings | None:
        values = self._values.get("tls", {})
        if "cert" not in values or "key" not in values:
            return None
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        cert, key = self._watched(values["cert"]), self._watched(values["key"])
        client_ca = self._watched(values["client_ca"]) if "client_ca" in values else ""
        if self._readable(cert, below(self._at, "tls", "cert")) and self._readable(key, below(self._at, "tls", "key")):
            try:
                # With a password, if only an empty one, OpenSSL never asks for it on the terminal.
                context.load_cert_chain(cert, key, password="")
            except (OSError, ValueError) as error:
                mismatch = getattr(error, "reason", None) == "KEY_VALUES_MISMATCH"
                what = "it is not the key of the certificate" if mismatch else "certificate and key cannot be used"
                self._complain("tls.key", what, "Name PEM files of a certificate and its key without a passphrase")
        if client_ca and self._readable(client_ca, below(self._at, "tls", "client_ca")):
            try:
                context.load_verify_locations(cafile=client_ca)
            except (OSError, ValueError):
                self._complain("tls.client_ca", "it holds no certificates", "Name a PEM file of the CAs' certificates")
        return TlsSettings(Path(cert), Path(key), Path(client_ca) if client_ca else None)

    def _readable(self, path: str, at: At) -> bool:
        try:
            with Path(path).open("rb"):
                return True
        except OSError as error:
            self._complaints.add(f"{path} cannot be read: {error.strerror}", at, "Mend the path, or its permissions")
            return False

    # --- tokens ----------------------------------------------------------------------------------------------------

    def _tokens(self) -> tuple[tuple[TokenSettings, ...], Mapping[str, Secret]]:
        found: list[TokenSettings] = []
        held: dict[str, Secret] = {}
        listed: Mapping[str, tuple[tuple[Source, ...], At]] = self._values.get("tokens", {})
        for caller, (sources, _) in listed.items():
            for source in sources:
                if source.kind == "file":
                    found.append(TokenSettings(caller, file=self._watched(source.name)))
                else:
                    found.append(TokenSettings(caller, env=source.name))
                    held[source.name] = Secret(self._env(source.name))
                self._check_token(found[-1], held, source.at)
        if len(found) > 1 and not self._complaints.found:
            try:
                credentials_of(found, held)
            except ConfigError as error:
                self._take_over(error, below(self._at, "tokens"))
        if listed or "tokens" in (self._at.node.mapping or {}):
            return tuple(found), held
        for index, token in enumerate(each.strip() for each in self._env(names.GATEWAY_TOKENS).split(",")):
            if not token:
                continue
            name = f"{names.GATEWAY_TOKENS}[{index}]"
            held[name] = Secret(token)
            found.append(TokenSettings("default", env=name))
            self._check_token(found[-1], held, At(Node(None), names.GATEWAY_TOKENS))
        if file := self._env(names.GATEWAY_TOKENS_FILE):
            found.append(TokenSettings("default", file=self._watched(file)))
            self._check_token(found[-1], held, At(Node(None), names.GATEWAY_TOKENS_FILE))
        return tuple(found), held

    def _check_token(self, token: TokenSettings, held: Mapping[str, Secret], at: At) -> None:
        try:
            credentials_of((token,), held)
        except ConfigError as error:
            self._take_over(error, at)

    def _admin_token(self) -> Secret | None:
        if "admin_token" not in self._values:
            return None
        source: Source = self._values["admin_token"]
        text = self._secret(source)
        if text and not (text.isascii() and text.isprintable() and " " not in text):
            self._complaints.add("it is no token that a header can carry", source.at, "Use ASCII without spaces")
        return Secret(text) if text else None

    # --- projects --------------------------------------------------------------------------------------------------

    def _projects(self, callers: tuple[str, ...]) -> tuple[ProjectSettings, ...]:
        listed: Mapping[str, tuple[Mapping[str, Any], At]] | None = self._values.get("projects")
        if listed is not None:
            return tuple(
                project
                for name, (values, at) in listed.items()
                if (project := self._project(name, values, at, callers)) is not None
            )
        if "projects" in (self._at.node.mapping or {}):
            return ()  # It could not be read, which has been said.
        from otel_posthog.gateway.configuration.variables import project_of_environment

        try:
            project, files, warnings = project_of_environment(self._environ)
        except ConfigError as error:
            self._complaints.found.append(error)
            return ()
        self._files.update({file: signature_of(file) for file in files})
        self._warnings.extend(warnings)
        return (project,)

    def _project(
        self, name: str, values: Mapping[str, Any], at: At, callers: tuple[str, ...]
    ) -> ProjectSettings | None:
        match: Mapping[str, Any] = values.get("match", {})
        for token in match.get("tokens", ()):
            if token not in callers:
                listed = f"`tokens` has {', '.join(callers)}" if callers else "There is nothing below `tokens`"
                self._complaints.add(f"there is no token `{token}`", below(at, "match", "tokens"), listed)
        resource: Mapping[str, tuple[str, ...]] = match.get("resource", {})
        delivery: Mapping[str, Any] = values.get("delivery", {})
        rules = self._rules(values)
        convert = self._convert(values.get("convert", {}))
        lane = self._lane(values, at, delivery)
        if lane is None:
            return None
        return ProjectSettings(
            name=name,
            lane=lane,
            rules=rules.rules,
            documents=rules.documents,
            match=MatchSettings(tuple(match.get("tokens", ())), tuple(resource.items())),
            convert=convert,
            delivery=self._delivery(delivery, convert, at),
            senders=delivery.get("senders", DEFAULT_SENDERS),
        )

    def _rules(self, values: Mapping[str, Any]) -> ProjectRules:
        paths = [self._watched(path) for path in values.get("rules", ())]
        try:
            return load_project_rules(paths, defaults=values.get("default_rules", False))
        except ConfigError as error:
            # Of another file, with line and key of its own.
            self._complaints.found.append(error)
            return ProjectRules(RuleSet(), "")

    def _lane(self, values: Mapping[str, Any], at: At, delivery: Mapping[str, Any]) -> Lane | None:
        host = ""
        if "host" in values:
            try:
                host = capture_host(
                    values["host"],
                    "host",
                    self_hosted=values.get("self_hosted", False),
                    allow_http=values.get("allow_http", False),
                    allow_link_local=values.get("allow_link_local", False),
                )
            except ConfigError as error:
                self._take_over(error, below(at, "host"))
        key = self._key(values["key"]) if "key" in values else None
        ca = self._watched(delivery["ca"]) if "ca" in delivery else ""
        where = below(at, "delivery", "ca")
        if ca and self._readable(ca, where):
            import ssl

            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=ca)
            except (OSError, ValueError):
                self._complaints.add("it holds no certificates", where, "Name a PEM file of the CAs' certificates")
        return Lane(Mode.DIRECT, host, key, ca_file=ca) if host and key is not None else None

    def _key(self, source: Source) -> Secret | None:
        text = self._secret(source)
        if not text:
            return None
        credential = parse_credential(text, source.name)
        problem = token_problem(credential, direct=True) if credential is not None else "it holds no key"
        if credential is None or problem:
            self._complaints.add(problem, source.at)
            return None
        return credential.token

    def _secret(self, source: Source) -> str:
        """What a source holds, "" after a complaint; never shown."""
        if source.kind == "env":
            text = self._env(source.name)
            if not text:
                self._complaints.add(f"the variable {source.name} is not set", source.at, "Set it, or name another")
            return text
        path = self._watched(source.name)
        try:
            with Path(path).open("rb") as file:
                text = file.read(MAX_SECRET_BYTES).decode().strip()
        except OSError as error:
            self._complaints.add(f"{path} cannot be read: {error.strerror}", source.at, "Mend path or permissions")
            return ""
        except UnicodeDecodeError:
            self._complaints.add(f"{path} is no text", source.at, "Write the key alone into it")
            return ""
        if not text:
            self._complaints.add(f"{path} is empty", source.at, "Write the key into it")
        return text

    def _convert(self, values: Mapping[str, Any]) -> ConvertConfig:
        fields = ("exceptions", "flag_events", "request_context", "trust_headers", "keep_query", "client_ip")
        fields += ("max_value_bytes", "max_event_bytes", "in_app_include", "in_app_exclude")
        config = self._fill(ConvertConfig(honour_carrier=True), values, fields)
        return replace(config, static_properties=values.get("properties", {}))

    def _delivery(self, values: Mapping[str, Any], convert: ConvertConfig, at: At) -> DeliveryConfig:
        fields = ("queue_size", "queue_bytes", "batch_size", "batch_bytes", "flush_interval", "timeout")
        fields += ("retry_initial", "retry_max", "compression", "wire")
        config: DeliveryConfig = self._fill(GATEWAY_DELIVERY, values, fields)
        if convert.max_event_bytes > config.batch_bytes:
            self._complaints.add(
                f"a batch of {config.batch_bytes:,} bytes cannot hold an event of {convert.max_event_bytes:,}",
                below(at, "delivery", "batch_bytes"),
                "Raise it, or lower `convert.max_event_bytes`",
            )
        if config.retry_initial > config.retry_max:
            self._complaints.add(
                f"the first pause of {config.retry_initial:g} s is longer than the longest, {config.retry_max:g} s",
                below(at, "delivery", "retry_max"),
                "Raise it, or lower `retry_initial`",
            )
        return config

    def _default(self, projects: tuple[ProjectSettings, ...]) -> str:
        listed: Mapping[str, tuple[Mapping[str, Any], At]] = self._values.get("projects") or {
            project.name: ({}, At(Node(None))) for project in projects
        }
        chosen: str = self._values.get("default_project", "")
        if chosen and chosen not in listed:
            self._complaints.add(
                f"there is no project `{shown(chosen)[1:-1]}`",
                below(self._at, "default_project"),
                f"Name one of {', '.join(listed)}",
            )
            return chosen
        if not chosen and len(listed) == 1 and not next(iter(listed.values()))[0].get("match"):
            chosen = next(iter(listed))
        for name, (values, at) in listed.items():
            if name != chosen and not values.get("match") and "match" not in (at.node.mapping or {}):
                self._complaints.add(
                    "nothing would ever go to this project",
                    at,
                    f"Give it `match`, or make it `default_project: {name}`",
                )
        return chosen


def below(at: At, *keys: str) -> At:
    """The place of a key below `at`; where it is not written, the nearest that is, under the key's own name."""
    found, line = at, at.line
    for index, key in enumerate(keys):
        entry = (found.node.mapping or {}).get(key)
        if entry is None:
            path = ".".join(filter(None, (found.path, *keys[index:])))
            return At(Node(None), path, line)
        found = found.child(key, entry)
        line = found.line
    return found


def default_spool(environ: Mapping[str, str]) -> str:
    """Where the spool is when nobody says: the state directory of systemd, else of the user."""
    if state := text_of(environ, "STATE_DIRECTORY").partition(":")[0]:
        return f"{state}/spool"
    base = text_of(environ, "XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return f"{base}/otel-posthog/spool"
