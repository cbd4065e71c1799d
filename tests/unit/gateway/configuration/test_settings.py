"""`bridge.yaml`, the environment and the command line: what they make, and every way to be wrong."""

# ruff: noqa: E501 - messages stand here as they are said
from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dirty_equals import IsPartialDict, IsStr
from inline_snapshot import snapshot

from otel_posthog.config.settings import ConvertConfig, DeliveryConfig, Lane, Mode, Secret
from otel_posthog.gateway.configuration.bridge_compounds import Sub
from otel_posthog.gateway.configuration.bridge_file import BridgeFileError, Overrides, load_gateway_settings
from otel_posthog.gateway.configuration.bridge_schema import TABLES, bridge_json_schema
from otel_posthog.gateway.configuration.bridge_types import size
from otel_posthog.gateway.configuration.settings import (
    GATEWAY_DELIVERY,
    GatewaySettings,
    LimitSettings,
    LogSettings,
    MatchSettings,
    SpoolSettings,
    TokenSettings,
)
from otel_posthog.gateway.receivers.settings import Listen, ReceiverSettings, TlsSettings

ROOT = Path(__file__).resolve().parents[4]
KEY = "phc_canary_key_of_the_shop"
TOKEN = "canary-token-of-the-collector"
ENVIRON = {"SHOP_KEY": KEY, "COLLECTOR_TOKEN": TOKEN}

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file beside `bridge.yaml`, or `bridge.yaml` itself; returns its path."""

    def write(content: Any, name: str = "bridge.yaml") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False), "utf-8")
        return str(path)

    return write


def project(**more: Any) -> dict[str, Any]:
    """A project as short as can be."""
    return {"host": "https://eu.i.posthog.com", "key": {"env": "SHOP_KEY"}, **more}


def document(**more: Any) -> dict[str, Any]:
    """A file as short as can be."""
    return {"projects": {"shop": project()}, **more}


def mistakes(path: str, environ: dict[str, str] | None = None, overrides: Overrides | None = None) -> list[str]:
    """What is said about a file, without its folder."""
    with pytest.raises(BridgeFileError) as raised:
        load_gateway_settings(path, ENVIRON if environ is None else environ, overrides)
    said = [str(error) for error in raised.value.errors]
    assert str(raised.value) == "\n".join(said)
    return [line.replace(str(Path(path).parent) + "/", "") if path else line for line in said]


def test_the_shortest_file(write: Write) -> None:
    """One project with a key: it gets everything, from this machine alone, and what is acknowledged is on disk."""
    path = write(document())
    settings = load_gateway_settings(path, {**ENVIRON, "XDG_STATE_HOME": "/state"})
    (shop,) = settings.projects
    assert shop.rules.digest == ""
    assert dataclasses.replace(settings, projects=()) == GatewaySettings(
        source=path,
        projects=(),
        default_project="shop",
        spool=SpoolSettings("/state/otel-posthog/spool"),
        files=(path,),
    )
    assert (shop.lane, shop.match, shop.convert, shop.delivery) == (
        Lane(Mode.DIRECT, "https://eu.i.posthog.com", Secret(KEY)),
        MatchSettings(),
        ConvertConfig(honour_carrier=True),
        GATEWAY_DELIVERY,
    )
    assert settings.receivers == ReceiverSettings(http=Listen("127.0.0.1", 4318), grpc=Listen("127.0.0.1", 4317))
    assert settings.admin == Listen("127.0.0.1", 8887)


def test_every_key_of_the_file(write: Write, tmp_path: Path) -> None:
    """A file that uses every key: each of them ends up where it belongs."""
    folder = tmp_path
    write("rules:\n  - {name: paid, match: {name: pay}, capture: paid}\n", "rules/shop.yaml")
    write(f"{KEY}-2\n", "secrets/eu-key")
    write(f"# collectors\n{TOKEN}-a\n\n{TOKEN}-b\n", "secrets/tokens")
    tls = certificates(folder)
    path = write(
        {
            "version": 1,
            "x-anchors": {"anything": "goes"},
            "listen": {"http": ":14318", "grpc": "[::1]:14317", "admin": 18888, "allow_unauthenticated": True},
            "tls": {"cert": "cert.pem", "key": "key.pem", "client_ca": "cert.pem"},
            "tokens": {
                "collector": {"env": "COLLECTOR_TOKEN"},
                "agents": [{"file": "secrets/tokens"}, {"env": "AGENT_TOKEN"}],
            },
            "admin_token": {"env": "ADMIN_TOKEN"},
            "acknowledge": "forward",
            "spool": {"dir": "spool", "max_bytes": "2GiB", "dead_letter_bytes": "8MB"},
            "limits": {
                "request_bytes": "16MiB", "inflight_bytes": 67108864, "connections": 10, "connections_per_peer": 0,
                "header_timeout": "500ms", "body_timeout": 5, "idle_timeout": "2m", "answer_timeout": 2.5,
                "grpc_threads": 8,
            },
            "workers": "auto",
            "reload": "signal",
            "drain_timeout": "1m",
            "log": {"format": "json", "level": "debug"},
            "projects": {
                "eu": {
                    "host": "https://eu.i.posthog.com/i",
                    "key": {"file": "secrets/eu-key"},
                    "match": {"tokens": "agents", "resource": {"service.name": ["shop", 1, True], "zone": "eu"}},
                    "rules": ["rules/shop.yaml"],
                    "convert": {
                        "exceptions": False, "request_context": False, "trust_headers": False, "keep_query": True,
                        "client_ip": True, "max_value_bytes": "1KiB", "max_event_bytes": 100_000,
                        "in_app_include": ["shop"], "in_app_exclude": "shop.vendor", "properties": {"team": "shop"},
                    },
                    "delivery": {
                        "senders": 2, "queue_size": 10, "queue_bytes": "1MiB", "batch_size": 5,
                        "batch_bytes": "128KiB", "flush_interval": 0.5, "timeout": 7, "retry_initial": 0.1,
                        "retry_max": 3, "compression": "none", "wire": "v0", "ca": "cert.pem",
                    },
                },
                "own": {
                    "host": "http://169.254.1.1:8000", "key": {"env": "SHOP_KEY"}, "self_hosted": True,
                    "allow_http": True, "allow_link_local": True, "default_rules": True,
                },
            },
            "default_project": "own",
        }
    )  # fmt: skip
    settings = load_gateway_settings(path, {**ENVIRON, "AGENT_TOKEN": "agent-token", "ADMIN_TOKEN": "admin-token"})
    eu, own = settings.projects
    assert dataclasses.replace(settings, projects=()) == GatewaySettings(
        source=path,
        projects=(),
        default_project="own",
        spool=SpoolSettings(str(folder / "spool"), max_bytes=2 * 1024**3, dead_letter_bytes=8_000_000),
        tokens=(
            TokenSettings("collector", env="COLLECTOR_TOKEN"),
            TokenSettings("agents", file=str(folder / "secrets/tokens")),
            TokenSettings("agents", env="AGENT_TOKEN"),
        ),
        values={"COLLECTOR_TOKEN": Secret(TOKEN), "AGENT_TOKEN": Secret("agent-token")},
        receivers=ReceiverSettings(
            http=Listen("0.0.0.0", 14318), grpc=Listen("::1", 14317), http_tls=tls, grpc_tls=tls,
            max_body=16 * 1024**2, max_connections=10, max_connections_per_peer=0, header_timeout=0.5,
            body_timeout=5.0, idle_timeout=120.0, answer_timeout=2.5, grpc_threads=8,
        ),
        admin=Listen("127.0.0.1", 18888),
        admin_token=Secret("admin-token"),
        limits=LimitSettings(request_bytes=16 * 1024**2, inflight_bytes=64 * 1024**2),
        acknowledge="forward",
        workers=0,
        reload="signal",
        drain_timeout=60.0,
        log=LogSettings("json", "debug"),
        files=(
            path,
            *(str(folder / each) for each in ("secrets/tokens", "cert.pem", "key.pem", "rules/shop.yaml")),
            str(folder / "secrets/eu-key"),
        ),
    )  # fmt: skip
    assert (eu.name, eu.lane, eu.match, eu.senders, eu.rules.names) == (
        "eu",
        Lane(Mode.DIRECT, "https://eu.i.posthog.com", Secret(f"{KEY}-2"), ca_file=str(folder / "cert.pem")),
        MatchSettings(("agents",), (("service.name", ("shop", "1", "true")), ("zone", ("eu",)))),
        2,
        ("paid",),
    )
    assert eu.convert == ConvertConfig(
        exceptions=False, request_context=False, keep_query=True, client_ip=True, max_value_bytes=1024,
        max_event_bytes=100_000, in_app_include=("shop",), in_app_exclude=("shop.vendor",),
        static_properties={"team": "shop"}, honour_carrier=True, trust_headers=False,
    )  # fmt: skip
    assert eu.delivery == DeliveryConfig(
        queue_size=10, queue_bytes=1024**2, batch_size=5, batch_bytes=128 * 1024, flush_interval=0.5, timeout=7.0,
        retry_initial=0.1, retry_max=3.0, retry_elapsed=0.0, compression="none", wire="v0", flush_on_sigterm=False,
    )  # fmt: skip
    assert own.lane == Lane(Mode.DIRECT, "http://169.254.1.1:8000", Secret(KEY))
    assert len(own.rules) > 0


def certificates(folder: Path) -> TlsSettings:
    """A certificate and its key."""
    import trustme

    made = trustme.CA().issue_cert("localhost")
    cert, key = folder / "cert.pem", folder / "key.pem"
    made.cert_chain_pems[0].write_to_path(str(cert))
    made.private_key_pem.write_to_path(str(key))
    return TlsSettings(cert, key, cert)


def test_every_mistake_is_said_at_once(write: Write) -> None:
    """One look at the messages is enough to mend the file: each names file, line, key and the way out."""
    path = write(
        """\
lissen: 3
version: 2
listen: {http: "0.0.0.0:99999", grpc: off, admin: "[::1]:x"}
tls: {cert: nope.pem, key: key.pem}
tokens:
  shop: canary-token-of-the-collector
  dup: {env: COLLECTOR_TOKEN, file: x}
  "bad name!": {env: A}
  miss: {env: NOT_SET}
limits: {request_bytes: 12lightyears, connections: 0, body_timeout: -3, inflight_bytes: 2MiB}
workers: many
acknowledge: spol
projects:
  a: {host: "http://169.254.169.254", key: {env: SHOP_KEY}, match: {tokens: [nobody]}}
  b: {host: "https://user:pw@eu.i.posthog.com", key: {env: NOT_SET}, match: {resource: {a: {}}}}
  c: {host: "file:///etc/passwd", key: phc_canary_key_of_the_shop, rules: [missing.yaml], match: {resource: {a: b}}}
  d: {host: "https://ph.example.com"}
  e: {host: "http://eu.i.posthog.com", key: {file: nokey}, convert: {max_value_bytes: 1, trust_header: true}}
  f: {host: "https://eu.i.posthog.com", key: {env: SHOP_KEY}, delivery: {retry_initial: 60, retry_max: 2}}
default_project: nobody
"""
    )
    said = mistakes(path)
    assert said == snapshot(
        [
            "`lissen` (bridge.yaml:1): unknown key `lissen`. Did you mean `listen`? Known here: version, listen, tls, tokens, admin_token, acknowledge, spool, limits, workers, reload, drain_timeout, log, self_metrics, projects, default_project",
            "`version` (bridge.yaml:2): 2 is out of range. Use 1",
            "`listen.http` (bridge.yaml:3): 99999 is no port; the highest is 65535. Write 127.0.0.1:4318, 0.0.0.0:4318, [::]:4318 or off",
            "`listen.admin` (bridge.yaml:3): '[::1]:x' is no address to listen on. Write 127.0.0.1:4318, 0.0.0.0:4318, [::]:4318 or off",
            "`tokens.shop` (bridge.yaml:6): a text stands where the source of a secret belongs. Write {env: NAME} for a variable that holds it, or {file: PATH} for a file",
            "`tokens.dup` (bridge.yaml:7): `env` and `file` together. Keep one of the two",
            "`tokens[\"bad name!\"]` (bridge.yaml:8): 'bad name!' is no name. Use letters, digits, `.`, `_` and `-`, 64 at the most",
            "`limits.request_bytes` (bridge.yaml:10): '12lightyears' is not a number of bytes. Use a size from 64 KiB to 256 MiB, such as 64MiB",
            "`limits.connections` (bridge.yaml:10): 0 is out of range. Use a whole number from 1 to 100,000",
            "`limits.body_timeout` (bridge.yaml:10): '-3' is out of range. Use seconds from 0.1 to 3,600, such as 2.5 or 500ms",
            "`workers` (bridge.yaml:11): 'many' is not a whole number. Use a whole number from 1 to 256, or `auto`",
            "`acknowledge` (bridge.yaml:12): 'spol' is not known. Did you mean `spool`? Use one of spool, forward",
            "`projects.b.match.resource.a` (bridge.yaml:15): a mapping stands where a single value belongs",
            "`projects.c.key` (bridge.yaml:16): a text stands where the source of a secret belongs. Write {env: NAME} for a variable that holds it, or {file: PATH} for a file",
            "`projects.d` (bridge.yaml:17): `key` is missing. Add it: where the project API key (`phc_…`) is",
            "`projects.e.convert.max_value_bytes` (bridge.yaml:18): '1' is out of range. Use a size from 16 bytes to 16 MiB, such as 64MiB",
            "`projects.e.convert.trust_header` (bridge.yaml:18): unknown key `trust_header`. Did you mean `trust_headers`? Known here: exceptions, flag_events, request_context, trust_headers, keep_query, client_ip, max_value_bytes, max_event_bytes, in_app_include, in_app_exclude, properties",
            "`tokens.miss.env` (bridge.yaml:9): has no token for caller `miss`. Set one",
            "`tls.cert` (bridge.yaml:4): nope.pem cannot be read: No such file or directory. Mend the path, or its permissions",
            "`limits.inflight_bytes` (bridge.yaml:10): it is smaller than one request may be. Raise it",
            "`projects.a.match.tokens` (bridge.yaml:14): there is no token `nobody`. `tokens` has miss",
            "`projects.a.host` (bridge.yaml:14): '169.254.169.254' is a link-local address, or one where clouds keep their metadata. Name PostHog's host; if it does run there, set `allow_link_local: true` beside it",
            "`projects.b.host` (bridge.yaml:15): it holds a user or a password, and hosts are shown in logs. Remove what stands before `@`",
            "`projects.b.key.env` (bridge.yaml:15): the variable NOT_SET is not set. Set it, or name another",
            "missing.yaml: the rules file cannot be read: No such file or directory. Mend the path, or its permissions",
            "`projects.c.host` (bridge.yaml:16): the scheme 'file' is not known. Write http:// or https:// before the host",
            "`projects.d.host` (bridge.yaml:17): 'ph.example.com' is not a host of PostHog's cloud. Write https://us.i.posthog.com or https://eu.i.posthog.com; for a PostHog of your own set `self_hosted: true` beside it",
            "`projects.e.host` (bridge.yaml:18): PostHog is spoken to over https alone. Write https://eu.i.posthog.com",
            "`projects.e.key.file` (bridge.yaml:18): nokey cannot be read: No such file or directory. Mend path or permissions",
            "`projects.f.delivery.retry_max` (bridge.yaml:19): the first pause of 60 s is longer than the longest, 2 s. Raise it, or lower `retry_initial`",
            "`default_project` (bridge.yaml:20): there is no project `nobody`. Name one of a, b, c, d, e, f",
        ]
    )
    assert KEY not in "".join(said)
    assert TOKEN not in "".join(said)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "nothing stands where `projects` belong"),
        ("- a\n", 1, "a list stands where a mapping belongs"),
        ("just text\n", 1, "'just text' stands where a mapping belongs"),
        ("projects: {}\n", 1, "an empty mapping stands where projects belong"),
        ("projects:\n", 1, "nothing stands where projects belong"),
        ("projects: [a]\n", 1, "a list stands where projects belong"),
        ("projects:\n  a: text\n", 2, "stands where a mapping belongs"),
        ("a: 1\na: 2\n", 2, "the key `a` is already on line 1"),
        ("a: [\n", 0, "this is not YAML"),
        ("\tprojects: 1\n", 1, "a tab indents this line"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "is not supported"),
        ("a: *b\n", 1, "has no anchor"),
        ("---\na: 1\n---\nb: 2\n", 3, "second YAML document"),
    ],
)
def test_a_file_that_is_none(write: Write, text: str, line: int, what: str) -> None:
    """Whatever stands in the file, it is said where; nothing of it is executed."""
    if not text:
        # An empty file is an empty mapping: the environment has the say, and says nothing.
        assert mistakes(write(text)) == [IsStr(regex=".*OTEL_EXPORTER_OTLP_ENDPOINT is not set.*")]
        return
    said = mistakes(write(text))
    assert any(
        what in each and (not line or f"bridge.yaml:{line})" in each or f"bridge.yaml:{line}:" in each) for each in said
    ), said


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder, and one that is no text."""
    assert mistakes(str(tmp_path / "none.yaml")) == [
        "none.yaml: the configuration file cannot be read: No such file or directory. Mend the path, or its permissions"
    ]
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff\n")
    assert mistakes(str(tmp_path / "bytes.yaml")) == ["bytes.yaml:1: byte 0xff is not UTF-8. Save the file as UTF-8"]


CASES: list[tuple[dict[str, Any], str]] = [
    ({"listen": {"http": "off", "grpc": "off"}}, "there is nothing to listen on"),
    ({"listen": {"http": 4317}}, "127.0.0.1:4317 is taken by `listen.http`"),
    ({"listen": {"admin": 4318}}, "127.0.0.1:4318 is taken by `listen.http`"),
    ({"listen": {"http": "0.0.0.0:4318"}}, "0.0.0.0:4318 is reachable from other machines, and callers need no token"),
    ({"listen": {"grpc": "[::]:4317"}}, "[::]:4317 is reachable from other machines"),
    ({"listen": {"http": True}}, "`true` is no address"),
    ({"listen": {"http": "http://x:1"}}, "is no address to listen on"),
    ({"limits": {"request_bytes": "64MiB", "inflight_bytes": "32MiB"}}, "smaller than one request may be"),
    ({"limits": {"request_bytes": True}}, "`true` is not a number of bytes"),
    ({"limits": {"body_timeout": "1 fortnight"}}, "is not a number of seconds"),
    ({"limits": {"body_timeout": float("inf")}}, "is not a number of seconds"),
    ({"workers": 0}, "0 is out of range. Use a whole number from 1 to 256, or `auto`"),
    ({"workers": 1.5}, "'1.5' is not a whole number"),
    ({"reload": "never"}, "'never' is not known. Use one of auto, signal"),
    ({"spool": {"dir": ""}}, "this is empty"),
    ({"spool": {"dir": "a\nb"}}, "line breaks or control characters"),
    ({"spool": {"dir": 5}}, "stands where text belongs. Put it in quotes"),
    ({"tokens": {}}, "an empty mapping stands where tokens belong"),
    ({"tokens": {"a": []}}, "an empty list"),
    ({"tokens": {"a": {"env": "WITH_SPACE"}}}, "has a token that no header can carry"),
    ({"tokens": {"a": {"env": "WITH_BREAK"}}}, "has a token that no header can carry"),
    ({"tokens": {"a": {"file": "missing"}}}, "cannot be read"),
    ({"tokens": {"a": {"env": "COLLECTOR_TOKEN"}, "b": {"env": "SAME_TOKEN"}}}, "is also one of"),
    ({"admin_token": {"env": "WITH_SPACE"}}, "no token that a header can carry"),
    ({"admin_token": "text"}, "a text stands where the source of a secret belongs"),
    ({"default_project": "other"}, "there is no project `other`. Name one of shop"),
    ({"projects": {"a": project(), "b": project()}}, "nothing would ever go to this project"),
    ({"projects": {"a": project(key={"env": "PERSONAL"})}}, "is a personal API key"),
    ({"projects": {"a": project(key={"env": "LONG"})}}, "no project API key has more than 64"),
    ({"projects": {"a": project(key={"file": "empty"})}}, "is empty"),
    ({"projects": {"a": project(key={"file": "binary"})}}, "is no text"),
    ({"projects": {"a": project(key={})}}, "an empty mapping" if False else "a mapping stands where the source"),
    ({"projects": {"a": project(key={"vault": "x"})}}, "unknown key `vault`"),
    (
        {"projects": {"a": project(rules="bad-rules.yaml")}},
        "bad-rules.yaml:1): unknown key `rule`. Did you mean `rules`?",
    ),
    ({"projects": {"a": project(rules=["one.yaml", "two.yaml"])}}, "is already taken by a rule in"),
    ({"projects": {"a": project(convert={"properties": {"a": [1]}})}}, "stands where a single value belongs"),
    ({"projects": {"a": project(delivery={"batch_bytes": "64KiB"})}}, "cannot hold an event of 921,600"),
    ({"projects": {"a": project(delivery={"ca": "binary"})}}, "holds no certificates"),
    ({"tls": {"cert": "binary", "key": "binary"}}, "certificate and key cannot be used"),
    ({"tls": {"cert": "binary"}}, "`key` is missing"),
    ({"projects": {"a b": project()}}, "'a b' is no name"),
    ({"projects": {"a": project(redaction={})}}, "unknown key `redaction`"),
]


@pytest.mark.parametrize(("more", "what"), CASES, ids=[what[:40] for _, what in CASES])
def test_each_mistake_by_itself(write: Write, tmp_path: Path, more: dict[str, Any], what: str) -> None:
    """Whatever can be known to be wrong is known at load."""
    write("", "empty")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    write("rule:\n  - a\n", "bad-rules.yaml")
    for name in ("one.yaml", "two.yaml"):
        write("rules:\n  - {name: paid, match: {name: pay}, capture: paid}\n", name)
    environ = {
        **ENVIRON,
        "WITH_SPACE": "two words",
        "WITH_BREAK": "two\nlines",
        "SAME_TOKEN": TOKEN,
        "PERSONAL": "phx_personal",
        "LONG": "phc_" + "x" * 70,
    }
    said = mistakes(write({**document(), **more}), environ)
    assert any(what in each for each in said), said
    assert not any(secret in each for each in said for secret in (KEY, TOKEN, "phx_personal", "two words"))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_unknown_keys_of_every_table(write: Write, table: Any) -> None:
    """A key that is nearly one is refused in each table, with its line and the key that was meant."""
    file: dict[str, Any] = document()
    place: dict[str, Any] = file
    for step in {
        "file": (), "project": ("projects", "shop"), "match": ("projects", "shop", "match"),
        "convert": ("projects", "shop", "convert"), "delivery": ("projects", "shop", "delivery"),
    }.get(table.name, (table.name,)):  # fmt: skip
        place = place.setdefault(step, {})
    wrong = f"{table.keys[0].name}x"
    place[wrong] = 1
    said = mistakes(write(file))
    assert any(f"unknown key `{wrong}`. Did you mean `{table.keys[0].name}`? Known here: " in each for each in said), (
        said
    )


def test_the_environment_alone(tmp_path: Path) -> None:
    """Endpoint and token of the in-process gate are a gateway with one project; callers' tokens open it."""
    (tmp_path / "tokens").write_text(f"{TOKEN}\n")
    settings = load_gateway_settings(
        "",
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://eu.i.posthog.com",
            "OTEL_EXPORTER_OTLP_TOKEN": KEY,
            "OTEL_POSTHOG_GATEWAY_TOKENS": "token-one, token-two",
            "OTEL_POSTHOG_GATEWAY_TOKENS_FILE": str(tmp_path / "tokens"),
            "OTEL_POSTHOG_GATEWAY_ACKNOWLEDGE": "forward",
            "OTEL_POSTHOG_GATEWAY_WORKERS": "3",
            "OTEL_POSTHOG_GATEWAY_ADMIN": "off",
            "OTEL_POSTHOG_GATEWAY_LOG": "json",
            "OTEL_POSTHOG_SPOOL_DIR": "/spool",
            "OTEL_POSTHOG_CLIENT_IP": "true",
            "OTEL_POSTHOG_TRUST_HEADERS": "false",
            "OTEL_POSTHOG_BATCH_SIZE": "7",
        },
    )
    (own,) = settings.projects
    assert dataclasses.replace(settings, projects=()) == GatewaySettings(
        source="the environment",
        projects=(),
        default_project="default",
        spool=SpoolSettings("/spool"),
        tokens=(
            TokenSettings("default", env="OTEL_POSTHOG_GATEWAY_TOKENS[0]"),
            TokenSettings("default", env="OTEL_POSTHOG_GATEWAY_TOKENS[1]"),
            TokenSettings("default", file=str(tmp_path / "tokens")),
        ),
        values={
            "OTEL_POSTHOG_GATEWAY_TOKENS[0]": Secret("token-one"),
            "OTEL_POSTHOG_GATEWAY_TOKENS[1]": Secret("token-two"),
        },
        receivers=ReceiverSettings(http=Listen("0.0.0.0", 4318), grpc=Listen("0.0.0.0", 4317)),
        admin=None,
        acknowledge="forward",
        workers=3,
        log=LogSettings("json"),
        files=(str(tmp_path / "tokens"),),
        warnings=(IsStr(regex="tokens arrive in plain text.*"),),
    )
    assert own.lane == Lane(Mode.DIRECT, "https://eu.i.posthog.com", Secret(KEY))
    assert own.convert == ConvertConfig(client_ip=True, honour_carrier=True, trust_headers=False)
    assert own.delivery == dataclasses.replace(GATEWAY_DELIVERY, batch_size=7)


@pytest.mark.parametrize(
    ("endpoint", "mode", "url"),
    [
        ("http://127.0.0.1:8765/i", "", "http://127.0.0.1:8765"),  # as `otel-posthog emulator` prints it
        ("https://us.i.posthog.com/i", "", "https://us.i.posthog.com"),
        ("https://us.posthog.com", "collector", "https://us.i.posthog.com"),
        ("https://ph.example.com/i", "direct", "https://ph.example.com"),
    ],
)
def test_the_endpoint_of_the_environment(endpoint: str, mode: str, url: str) -> None:
    """It is where events go, whatever mode a process would have: a gateway delivers."""
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_TOKEN": KEY,
        "OTEL_POSTHOG_MODE": mode,
    }
    assert load_gateway_settings("", environ).projects[0].lane == Lane(Mode.DIRECT, url, Secret(KEY))


@pytest.mark.parametrize(
    ("environ", "what"),
    [
        ({}, "OTEL_EXPORTER_OTLP_ENDPOINT is not set"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://eu.i.posthog.com"}, "OTEL_EXPORTER_OTLP_TOKEN"),
        ({"OTEL_EXPORTER_OTLP_TOKEN": "phx_personal"}, "personal API key"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://ph.example.com"},
            "not a host of PostHog's cloud. For a PostHog of your own set OTEL_POSTHOG_MODE=direct",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://169.254.169.254", "OTEL_POSTHOG_MODE": "direct"}, "link-local"),
        ({"OTEL_SDK_DISABLED": "true"}, "OTEL_SDK_DISABLED is true"),
        ({"OTEL_POSTHOG_CONFIG": "/nowhere/rules.yaml"}, "the rules file cannot be read"),
        ({"OTEL_POSTHOG_BATCH_SIZE": "many"}, "OTEL_POSTHOG_BATCH_SIZE"),
        ({"OTEL_POSTHOG_GATEWAY_WORKERS": "lots"}, "is no number of workers"),
        ({"OTEL_POSTHOG_GATEWAY_HTTP": "nonsense"}, "`OTEL_POSTHOG_GATEWAY_HTTP`: 'nonsense' is no address"),
        ({"OTEL_POSTHOG_GATEWAY_ACKNOWLEDGE": "soon"}, "'soon' is not known"),
        ({"OTEL_POSTHOG_GATEWAY_LOG": "xml"}, "'xml' is not known"),
        ({"OTEL_POSTHOG_GATEWAY_TOKENS": "two words"}, "no header can carry"),
        ({"OTEL_POSTHOG_GATEWAY_TOKENS_FILE": "/nowhere"}, "cannot be read"),
        ({"OTEL_POSTHOG_GATEWAY_CONFIG": "/nowhere.yaml"}, "the configuration file cannot be read"),
    ],
)
def test_a_wrong_environment(environ: dict[str, str], what: str) -> None:
    """Each variable that is wrong is named, with the way out; no value of a secret is shown."""
    base = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://eu.i.posthog.com", "OTEL_EXPORTER_OTLP_TOKEN": KEY}
    lone = not environ or (set(environ) == {"OTEL_EXPORTER_OTLP_ENDPOINT"} and "eu.i" in str(environ))
    said = mistakes("", environ if lone else {**base, **environ})
    assert any(what in each for each in said), said
    assert not any(secret in each for each in said for secret in (KEY, "phx_personal", "two words"))


def test_the_command_line_beats_the_environment_beats_the_file(write: Write) -> None:
    """For addresses, workers, acknowledgement, spool and log lines."""
    path = write(
        document(
            listen={"http": 1111, "grpc": 1112, "admin": 1113},
            workers=2,
            acknowledge="spool",
            spool={"dir": "a"},
            log={"format": "text"},
        )
    )
    environ = {
        **ENVIRON,
        "OTEL_POSTHOG_GATEWAY_HTTP": "127.0.0.1:2221",
        "OTEL_POSTHOG_GATEWAY_GRPC": "127.0.0.1:2222",
        "OTEL_POSTHOG_GATEWAY_WORKERS": "4",
    }
    settings = load_gateway_settings(
        path, environ, Overrides(http="3331", workers=0, acknowledge="forward", spool_dir="/b", log_format="json")
    )
    assert (settings.receivers.http, settings.receivers.grpc, settings.admin) == (
        Listen("127.0.0.1", 3331),
        Listen("127.0.0.1", 2222),
        Listen("127.0.0.1", 1113),
    )
    assert (settings.workers, settings.acknowledge, settings.spool.folder, settings.log.format) == (
        0,
        "forward",
        "/b",
        "json",
    )


def test_callers_that_are_known_open_the_gateway_to_others(write: Write) -> None:
    """Without an address: every interface where a token is asked for, else this machine alone."""
    tokens = {"collector": {"env": "COLLECTOR_TOKEN"}}
    assert load_gateway_settings(write(document(tokens=tokens)), ENVIRON).receivers.http == Listen("0.0.0.0", 4318)
    assert load_gateway_settings(write(document()), ENVIRON).receivers.http == Listen("127.0.0.1", 4318)
    listen = {"http": "0.0.0.0:4318", "allow_unauthenticated": True}
    assert load_gateway_settings(write(document(listen=listen)), ENVIRON).receivers.http == Listen("0.0.0.0", 4318)


def test_no_secret_in_a_repr(write: Write) -> None:
    """Settings may be logged by anybody."""
    settings = load_gateway_settings(
        write(document(tokens={"a": {"env": "COLLECTOR_TOKEN"}}, admin_token={"env": "ADMIN"})),
        {**ENVIRON, "ADMIN": "canary-admin-token"},
    )
    shown = f"{settings!r} {settings}"
    assert not any(secret in shown for secret in (KEY, TOKEN, "canary-admin-token"))


def test_the_schema_for_editors_is_as_the_tables() -> None:
    """docs/gateway.schema.json is what the tables say."""
    path = ROOT / "docs" / "gateway.schema.json"
    assert json.loads(path.read_text(encoding="utf-8")) == bridge_json_schema()


def test_the_schema_takes_what_the_reader_takes(write: Write) -> None:
    """Editors complain about a key that the gateway refuses, and not about one that it takes."""
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(bridge_json_schema())
    validator.check_schema(bridge_json_schema())
    example = yaml.safe_load((ROOT / "collector" / "bridge.yaml").read_text(encoding="utf-8"))
    assert [error.message for error in validator.iter_errors(example)] == []
    assert [error.message for error in validator.iter_errors(document())] == []
    for wrong in (
        {**document(), "lissen": {}},
        document(workers=0),
        document(acknowledge="spol"),
        {"projects": {"a": project(key="phc_inline")}},
        {"projects": {"a": {"host": "x"}}},
    ):
        assert list(validator.iter_errors(wrong)), wrong


def test_every_table_is_in_the_schema() -> None:
    """A table that no key leads to would be one that nobody can use."""
    reached = {"file"}
    for table in TABLES:
        for key in table.keys:
            kind = getattr(key.type, "type", key.type)
            if isinstance(kind, Sub):
                reached.add(kind.table.name)
    assert reached == {table.name for table in TABLES}
    assert bridge_json_schema()["$defs"] == IsPartialDict({name: IsPartialDict() for name in reached - {"file"}})


@pytest.mark.parametrize(("count", "text"), [(1024, "1 KiB"), (1000, "1,000 bytes"), (5 * 1024**3, "5 GiB")])
def test_sizes_read_well(count: int, text: str) -> None:
    """Sizes in messages are as people write them."""
    assert size(count) == text
