"""`bridge.yaml`, once: every key with its type, limits, meaning and an example.

From these tables come the reader (`bridge_file.py`), the JSON Schema for editors (docs/gateway.schema.json) and the
reference in docs/gateway.md. A new key is one `Key` here and its meaning in `bridge_file.py`.
"""

from __future__ import annotations

from typing import Any, Final

from otel_posthog.gateway.configuration.bridge_compounds import Listener, Named, SecretSource, Sub, Texts, Values
from otel_posthog.gateway.configuration.bridge_types import Bytes, Choice, Flag, Key, Seconds, Table, Text, Whole

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_GIB: Final = 1024 * _MIB

LISTEN: Final = Table(
    "listen",
    "Where to listen. OTLP is taken from loopback alone unless callers have to show a token or a certificate.",
    (
        Key("http", Listener(), "OTLP over HTTP.", default="port 4318", example="0.0.0.0:4318"),
        Key("grpc", Listener(), "OTLP over gRPC.", default="port 4317", example="0.0.0.0:4317"),
        Key(
            "admin",
            Listener(),
            "`/livez`, `/readyz`, `/metrics` and the live view. It asks for no credential.",
            default="127.0.0.1:8887",
            example="0.0.0.0:8887",
        ),
        Key(
            "allow_unauthenticated",
            Flag(),
            "Take OTLP from a network although nobody is asked for a token or a certificate: the network itself keeps "
            "strangers out.",
            default="false",
        ),
    ),
)

TLS: Final = Table(
    "tls",
    "TLS of both OTLP listeners, from PEM files that are read again when they change.",
    (
        Key("cert", Text(), "The certificate, followed by its intermediates.", required=True, example="tls/cert.pem"),
        Key("key", Text(), "Its private key, without a passphrase.", required=True, example="tls/key.pem"),
        Key(
            "client_ca",
            Text(),
            "Certificates of CAs: only clients that show a certificate of theirs are let in (mTLS).",
            example="tls/clients.pem",
        ),
    ),
)

LIMITS: Final = Table(
    "limits",
    "What callers may ask.",
    (
        Key(
            "request_bytes",
            Bytes(64 * _KIB, 256 * _MIB),
            "One request, as it arrives and inflated; more is answered 413, for good.",
            default="64MiB",
        ),
        Key(
            "inflight_bytes",
            Bytes(1 * _MIB, 64 * _GIB),
            "All requests together that are not answered yet; more is told to come again.",
            default="192MiB",
        ),
        Key(
            "connections",
            Whole(1, 100_000),
            "Open connections of each listener.",
            default="1000",
        ),
        Key(
            "connections_per_peer",
            Whole(0, 100_000),
            "Open HTTP connections of one address; 0 for no such limit. A load balancer is one address.",
            default="500",
        ),
        Key("header_timeout", Seconds(0.1, 300), "In which handshake and headers have to arrive.", default="10"),
        Key("body_timeout", Seconds(0.1, 3600), "In which a body has to arrive.", default="60"),
        Key("idle_timeout", Seconds(1, 3600), "That a connection may wait for its next request.", default="120"),
        Key(
            "answer_timeout",
            Seconds(0.1, 600),
            "That a request waits for its answer before it is told to come again.",
            default="30",
        ),
        Key("grpc_threads", Whole(1, 1024), "gRPC requests at a time.", default="32"),
    ),
)

SPOOL: Final = Table(
    "spool",
    "The journal on disk. Each worker has a folder of its own in it, and its own share of these limits.",
    (
        Key(
            "dir",
            Text(),
            "Its folder. Without it `OTEL_POSTHOG_SPOOL_DIR`, `$STATE_DIRECTORY/spool`, or "
            "`~/.local/state/otel-posthog/spool`.",
            example="/var/lib/otel-posthog/spool",
        ),
        Key(
            "max_bytes",
            Bytes(1 * _MIB, 16 * 1024 * _GIB),
            "Bytes of one worker's journal. When it is full, callers are told to come again.",
            default="1GiB",
        ),
        Key(
            "dead_letter_bytes",
            Bytes(0, 16 * 1024 * _GIB),
            "Bytes of one worker's dead letters; what came first stays, what has no room is counted.",
            default="64MiB",
        ),
    ),
)

LOG: Final = Table(
    "log",
    "The gateway's own log lines, on standard error.",
    (
        Key("format", Choice(("text", "json")), "For people or for machines.", default="text"),
        Key("level", Choice(("debug", "info", "warning", "error")), "The least that is said.", default="info"),
    ),
)

SELF_METRICS: Final = Table(
    "self_metrics",
    "The gateway's own metrics over OTLP/HTTP, beside `/metrics`; see docs/observability.md.",
    (
        Key(
            "endpoint",
            Text(),
            "Where they go; `/v1/metrics` is added. Not the gateway itself: it takes no metrics.",
            required=True,
            example="http://collector:4318",
        ),
        Key(
            "headers",
            Named(SecretSource(), "headers"),
            "Headers to send along, each with the source of its value.",
            example="{authorization: {env: METRICS_AUTHORIZATION}}",
        ),
        Key("interval", Seconds(1, 3600), "Between two exports.", default="60"),
    ),
)

MATCH: Final = Table(
    "match",
    "Whose telemetry is this project's own: all that is given must hold. The first project that matches gets it.",
    (
        Key(
            "tokens",
            Texts(),
            "Names below `tokens`. A token that projects name is theirs: what its callers send goes to no other.",
            example="[shop-web, shop-mobile]",
        ),
        Key(
            "resource",
            Values(),
            "Resource attributes, each with a value, or a list of values of which it must have one.",
            example="{service.namespace: [shop, checkout]}",
        ),
    ),
)

CONVERT: Final = Table(
    "convert",
    "How items become events; the same switches as in a process (docs/configuration.md).",
    (
        Key("exceptions", Flag(), "Exceptions become `$exception`.", default="true"),
        Key(
            "flag_events",
            Choice(("others", "all", "off")),
            "Flag evaluations that become `$feature_flag_called`; `others`: all but those of PostHog's own provider.",
            default="others",
        ),
        Key("request_context", Flag(), "Add `$current_url`, `$browser` … of the request.", default="true"),
        Key(
            "trust_headers",
            Flag(),
            "Believe captured `x-posthog-*` request headers, which whoever sent the request could write.",
            default="true",
        ),
        Key("keep_query", Flag(), "Keep the query of `$current_url`; it leaks.", default="false"),
        Key("client_ip", Flag(), "Send the client's address as `$ip`.", default="false"),
        Key("max_value_bytes", Bytes(16, 16 * _MIB), "Longest string value of a property.", default="64KiB"),
        Key("max_event_bytes", Bytes(1024, 1_000_000), "Largest event.", default="900KiB"),
        Key("in_app_include", Texts(), "Module or path prefixes whose frames are the app's."),
        Key("in_app_exclude", Texts(), "Module or path prefixes whose frames are not the app's."),
        Key(
            "properties",
            Values(several=False),
            "Properties for every event where absent.",
            example="{environment: production}",
        ),
    ),
)

DELIVERY: Final = Table(
    "delivery",
    "How events leave. Nothing is given up: what cannot be sent now is sent later.",
    (
        Key("senders", Whole(1, 64), "Requests to PostHog at the same time, for each worker.", default="4"),
        Key(
            "queue_size",
            Whole(1, 10_000_000),
            "Events in memory; what does not fit waits in the spool.",
            default="20000",
        ),
        Key("queue_bytes", Bytes(1 * _MIB, 64 * _GIB), "Bytes of these events.", default="32MiB"),
        Key("batch_size", Whole(1, 10_000), "Events in one request.", default="1000"),
        Key("batch_bytes", Bytes(64 * _KIB, 20 * _MIB), "Bytes of one request before compression.", default="5MiB"),
        Key("flush_interval", Seconds(0.01, 3600), "How long a part-filled batch waits.", default="1"),
        Key("timeout", Seconds(0.1, 300), "Of one whole request.", default="15"),
        Key("retry_initial", Seconds(0.01, 3600), "First pause before a retry; doubles, with jitter.", default="1"),
        Key("retry_max", Seconds(0.01, 3600), "Longest such pause.", default="30"),
        Key("compression", Choice(("gzip", "none")), "Of requests.", default="gzip"),
        Key("wire", Choice(("auto", "v1", "v0")), "PostHog's capture API; `auto` falls back to v0.", default="auto"),
        Key("ca", Text(), "PEM file of the only CAs to trust, instead of the system's.", example="/etc/ssl/own.pem"),
    ),
)

PROJECT: Final = Table(
    "project",
    "One PostHog project.",
    (
        Key(
            "host", Text(), "PostHog's host of the project's region.", required=True, example="https://eu.i.posthog.com"
        ),
        Key(
            "key",
            SecretSource(),
            "Where the project API key (`phc_…`) is. The file is read again when it changes.",
            required=True,
            example="{file: /run/secrets/posthog-key}",
        ),
        Key("match", Sub(MATCH), "Whose telemetry is its own. Only the default project needs none."),
        Key(
            "rules",
            Texts(),
            "Rules files, in order; paths are relative to this file. See docs/rules.md.",
            example="[rules/shop.yaml]",
        ),
        Key("default_rules", Flag(), "Append the default rule set.", default="false"),
        Key("self_hosted", Flag(), "`host` is not one of PostHog's cloud.", default="false"),
        Key("allow_http", Flag(), "`host` may be spoken to in plain text.", default="false"),
        Key("allow_link_local", Flag(), "`host` may be a link-local address.", default="false"),
        Key("convert", Sub(CONVERT), "How its items are converted."),
        Key("delivery", Sub(DELIVERY), "How its events are delivered."),
    ),
)

FILE: Final = Table(
    "file",
    "The configuration of `otel-posthog gateway`.",
    (
        Key("version", Whole(1, 1), "Version of this format; only `1` exists.", default="1"),
        Key("listen", Sub(LISTEN), "Where to listen."),
        Key("tls", Sub(TLS), "TLS of the OTLP listeners."),
        Key(
            "tokens",
            Named(SecretSource(several=True), "tokens"),
            "Callers, each with the sources of its bearer tokens. A file holds one token a line and is read again when "
            "it changes; several tokens of a caller are all good, for a rotation. `env` or `file`, or a list of these.",
            example="{shop: {file: /run/secrets/shop-tokens}}",
        ),
        Key(
            "admin_token",
            SecretSource(),
            "What `/tail` of the admin listener, which shows people's data, asks for as bearer. Without it only this "
            "machine sees it.",
            example="{env: ADMIN_TOKEN}",
        ),
        Key(
            "acknowledge",
            Choice(("spool", "forward")),
            "What an answer of 200 promises: `spool`, that the request is durably on disk; `forward`, that PostHog has "
            "its events.",
            default="spool",
        ),
        Key("spool", Sub(SPOOL), "The journal on disk."),
        Key("limits", Sub(LIMITS), "What callers may ask."),
        Key("workers", Whole(1, 256, word="auto"), "Processes; `auto` is one per core.", default="1"),
        Key(
            "reload",
            Choice(("auto", "signal")),
            "When files are read again: `auto`, a few seconds after one has changed, or on SIGHUP; `signal`, on SIGHUP "
            "alone.",
            default="auto",
        ),
        Key(
            "drain_timeout",
            Seconds(0, 3600),
            "That a stop may take to deliver what has arrived. The rest stays in the spool.",
            default="10",
        ),
        Key("log", Sub(LOG), "The gateway's own log lines."),
        Key("self_metrics", Sub(SELF_METRICS), "Push the gateway's own metrics, instead of having them scraped."),
        Key(
            "projects",
            Named(Sub(PROJECT), "projects"),
            "PostHog projects, in order: the first that matches gets an item. Without any, the project of "
            "`OTEL_EXPORTER_OTLP_ENDPOINT` and `OTEL_EXPORTER_OTLP_TOKEN`.",
        ),
        Key(
            "default_project",
            Text(),
            "Gets what no project matches. A single project without `match` is the default by itself.",
            example="shop",
        ),
    ),
)

TABLES: Final = (FILE, LISTEN, TLS, SPOOL, LIMITS, LOG, SELF_METRICS, PROJECT, MATCH, CONVERT, DELIVERY)


def bridge_json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `bridge.yaml`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "otel-posthog gateway",
        **FILE.schema(),
        # Keys that begin with x- are the place for anchors.
        "patternProperties": {"^x-": {}},
        "$defs": {table.name: table.schema() for table in TABLES if table is not FILE},
    }


def bridge_reference() -> str:
    """Every table of the format, in Markdown."""
    parts: list[str] = []
    for table in TABLES:
        title = "The file" if table is FILE else f"`{table.name}`"
        rows = "\n".join(_row(key) for key in table.keys)
        parts.append(f"### {title}\n\n{table.doc}\n\n| Key | Value | Meaning |\n| --- | --- | --- |\n{rows}")
    return "\n\n".join(parts) + "\n"


def _row(key: Key) -> str:
    name = f"`{key.name}`" + (" (required)" if key.required else "")
    default = f" Default: {key.default if ' ' in key.default else f'`{key.default}`'}." if key.default else ""
    example = f" Example: `{key.example}`." if key.example else ""
    return f"| {name} | {key.type.label} | {key.doc}{default}{example} |".replace("`|`", "`\\|`")
