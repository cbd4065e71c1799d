"""Precedence, types, sources and messages of `load_settings`."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.config.environment import OURS, VARIABLES, Variable, variable
from otel_posthog.config.flags import flags_target
from otel_posthog.config.load import load_settings
from otel_posthog.config.settings import RulesConfig, Secret, Settings
from otel_posthog.errors import ConfigError

ON = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:8765/i", "OTEL_EXPORTER_OTLP_TOKEN": "phc_load"}
BY_NAME = {row.name: row for row in OURS}
# Rows that take part in the gate or the lanes rather than fill one field.
NOT_FIELDS = {"enabled", "lane.mode", "sinks"}
# Set by the gateway for itself; in a process it would make no sense.
NOT_VARIABLES = {"convert.honour_carrier", "convert.trust_headers"}


def field(settings: Settings, path: str) -> Any:
    """The value at a dotted path."""
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def written(row: Variable, value: object) -> str:
    """A value as one would write it into the environment."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def test_every_field_of_the_settings_has_a_variable() -> None:
    """No setting can be reached by code alone, and no variable fills nothing."""
    fields: set[str] = {"record_unsampled"}
    for section in ("delivery", "convert", "identity", "rules", "flags", "browser"):
        fields |= {f"{section}.{each.name}" for each in dataclasses.fields(getattr(Settings(enabled=False), section))}

    assert fields - NOT_VARIABLES == {row.setting for row in OURS} - NOT_FIELDS


def test_the_tables_defaults_are_the_codes_defaults() -> None:
    """What the table says counts where nothing is set is what counts."""
    settings = load_settings({})

    for row in OURS:
        if row.setting in NOT_FIELDS:
            continue
        value = field(settings, row.setting)
        assert row.default == ("" if value in ("", (), {}, Secret("")) else written(row, value)), row.name


def test_names_are_unique_and_described() -> None:
    """Each name stands once in the table, with a meaning in one line."""
    assert len({row.name for row in VARIABLES}) == len(VARIABLES)
    assert [row.name for row in VARIABLES if not row.meaning.endswith(".") or "\n" in row.meaning] == []
    with pytest.raises(KeyError):
        variable("OTEL_NOTHING")


SAMPLES: dict[str, tuple[str, Any]] = {
    "bool": (" On ", True),
    "int": (" 5000 ", 5000),
    "seconds": ("2.5", 2.5),
    "list": (" a, b ,,a", ("a", "b")),
    "map": ("a=1, b%20c=%C3%BC ,", {"a": "1", "b c": "ü"}),
    "path": ("/tmp/x.yaml", "/tmp/x.yaml"),
}


@pytest.mark.parametrize("row", [row for row in OURS if row.setting not in NOT_FIELDS], ids=lambda row: row.name)
def test_argument_beats_environment_beats_default(row: Variable, tmp_path: Path) -> None:
    """Each setting: from the environment, from an argument over it, blank counting as unset; the source is recorded."""
    text, value = SAMPLES.get(row.kind, (row.choices[-1].upper() if row.choices else "", row.choices[-1:]))
    if row.kind == "choice":
        value = row.choices[-1]
    if row.name == "OTEL_POSTHOG_BATCH_BYTES":
        text, value = "1000000", 1_000_000
    if row.name == "OTEL_POSTHOG_RETRY_INITIAL":
        text, value = "1.5", 1.5
    if row.kind == "text":
        text = {
            "OTEL_POSTHOG_BROWSER_TOKEN": "phc_page",
            "OTEL_POSTHOG_BROWSER_RELAY": "/relay",
            "OTEL_POSTHOG_BROWSER_CONSENT": "required",
        }.get(row.name, "https://flags.example")
        value = Secret(text) if row.secret else text
    if row.name == "OTEL_POSTHOG_BAGGAGE_SECRET":
        text, value = " 0123456789abcdef , ", (Secret("0123456789abcdef"),)
    if row.name == "OTEL_POSTHOG_BAGGAGE_SECRET_FILE":
        text = value = str(tmp_path / "secrets")
        Path(text).write_text("0123456789abcdef\n")
    default = field(load_settings(ON, directory="/nowhere"), row.setting)

    environment = load_settings({**ON, row.name: text}, directory="/nowhere")
    argument = load_settings({**ON, row.name: text}, directory="/nowhere", **{row.argument: default or value})
    blank = load_settings({**ON, row.name: " \t"}, directory="/nowhere")

    assert (value, row.name) == (field(environment, row.setting), environment.sources[row.setting])
    assert (default or value, f"argument {row.argument}") == (
        field(argument, row.setting),
        argument.sources[row.setting],
    )
    assert (default, "default") == (field(blank, row.setting), blank.sources[row.setting])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("OTEL_POSTHOG_ENABLED", "maybe", "'maybe' is neither true nor false. Use true or false"),
        ("OTEL_POSTHOG_MODE", "auto", "'auto' is not known. Use one of direct, collector"),
        ("OTEL_POSTHOG_RECORD_UNSAMPLED", "some", "'some' is not known. Use one of all, server, off"),
        ("OTEL_POSTHOG_QUEUE_SIZE", "many", "'many' is not a whole number. Use a whole number of 1 or more"),
        ("OTEL_POSTHOG_QUEUE_SIZE", "0", "0 is too small"),
        ("OTEL_POSTHOG_QUEUE_SIZE", "1.5", "not a whole number"),
        ("OTEL_POSTHOG_QUEUE_SIZE", "9" * 5000, "not a whole number"),
        ("OTEL_POSTHOG_MAX_EVENT_BYTES", "2000000", "2,000,000 is too large"),
        ("OTEL_POSTHOG_TIMEOUT", "10s", "'10s' is not a number of seconds"),
        ("OTEL_POSTHOG_TIMEOUT", "nan", "not a number of seconds"),
        ("OTEL_POSTHOG_TIMEOUT", "inf", "not a number of seconds"),
        ("OTEL_POSTHOG_TIMEOUT", "-1", "too small"),
        ("OTEL_POSTHOG_SINK", "console,printer", "the sink 'printer' is not known"),
        ("OTEL_POSTHOG_SINK", "file:", "the sink 'file' needs a path"),
        ("OTEL_POSTHOG_SINK", "memory:x", "the sink 'memory' is not known"),
        ("OTEL_POSTHOG_PROPERTIES", "novalue", "'novalue' in it is not key=value"),
        ("OTEL_POSTHOG_PROPERTIES", "{broken", "the JSON in it cannot be read"),
        ("OTEL_POSTHOG_PROPERTIES", "=1", "is not key=value"),
        ("OTEL_POSTHOG_SPOOL_DIR", "a\0b", "a path holds no NUL"),
        ("OTEL_POSTHOG_BATCH_BYTES", "2048", "cannot hold an event of 921,600"),
        ("OTEL_POSTHOG_RETRY_INITIAL", "40", "longer than the longest"),
        ("OTEL_POSTHOG_BAGGAGE_HOSTS", "https://orders/x", "'https://orders/x' is no host"),
        ("OTEL_POSTHOG_BAGGAGE_HOSTS", "orders,!", "'!' is no host"),
        ("OTEL_POSTHOG_BAGGAGE_HOSTS", "!internal", "'!internal' says nothing"),
        ("OTEL_POSTHOG_BAGGAGE_SECRET", "short", "a secret has 5 characters. Use 16 or more"),
        ("OTEL_POSTHOG_BAGGAGE_SECRET_FILE", "/nowhere/secrets", "cannot be read: No such file or directory"),
        ("OTEL_POSTHOG_BAGGAGE_SECRET_FILE", "/dev/null", "has no secret in it"),
        ("OTEL_POSTHOG_BAGGAGE_MAX_AGE", "0", "0 is too small"),
    ],
)
def test_bad_values(name: str, text: str, words: str) -> None:
    """A bad value is refused with its key and the way out; while the gate is shut it is only a warning."""
    with pytest.raises(ConfigError) as raised:
        load_settings({**ON, name: text})
    shut = load_settings({name: text})

    assert words in str(raised.value)
    assert "OTEL_POSTHOG_" in str(raised.value)
    assert (False, (str(raised.value),)) == (shut.enabled, shut.warnings)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"queue_sise": 1}, "`queue_sise` (argument): no such setting. Did you mean queue_size?"),
        ({"zzz": 1}, "The settings are baggage, baggage_hosts, baggage_keys"),
        ({"queue_size": True}, "'True' is not a whole number"),
        ({"queue_size": 1.0}, "'1.0' is not a whole number"),
        ({"timeout": [1]}, "is not a number of seconds"),
        ({"baggage_keys": [1]}, "'1' in it is not text"),
        ({"baggage_keys": 7}, "'7' is not a list"),
        ({"properties": 7}, "'7' is not a mapping"),
        ({"config": 7}, "'7' is not a path"),
        ({"exceptions": "perhaps"}, "`exceptions` (argument): 'perhaps' is neither true nor false"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    """A bad argument is refused by its own name."""
    with pytest.raises(ConfigError) as raised:
        load_settings(ON, **arguments)

    assert words in str(raised.value)


def test_arguments_of_natural_types() -> None:
    """Code passes numbers, booleans, paths, lists and mappings as what they are; None is not given."""
    settings = load_settings(
        ON,
        queue_size=5,
        timeout=3,
        exceptions=False,
        baggage_keys=["a"],
        config=Path("/tmp/rules.yaml"),
        properties={"team": 7},
        wire=None,
    )

    assert (
        settings.delivery.queue_size,
        settings.delivery.timeout,
        settings.convert.exceptions,
        settings.identity.baggage_keys,
        settings.rules.path,
        settings.convert.static_properties,
        settings.delivery.wire,
    ) == (5, 3.0, False, ("a",), "/tmp/rules.yaml", {"team": 7}, "auto")


def test_none_empties_a_list_and_json_keeps_types() -> None:
    """`none` is how to write an empty list, and a JSON object how to write typed properties."""
    settings = load_settings(
        {**ON, "OTEL_POSTHOG_BAGGAGE_KEYS": "None", "OTEL_POSTHOG_PROPERTIES": '{"tier": 2, "beta": true}'}
    )

    assert (settings.identity.baggage_keys, settings.convert.static_properties) == ((), {"tier": 2, "beta": True})


def test_a_typing_error_in_a_name_is_pointed_out() -> None:
    """A variable that is nearly ours has no effect, so its owner hears of it; a stranger's is left alone."""
    settings = load_settings({**ON, "OTEL_POSTHOG_QUEUESIZE": "5", "OTEL_POSTHOG_REQUIRE_ALL": "1"})

    assert settings.warnings == ("OTEL_POSTHOG_QUEUESIZE is not a setting; did you mean OTEL_POSTHOG_QUEUE_SIZE?",)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[tool.otel_posthog]\n", True),
        ("  [[ tool . otel_posthog.rules ]]\n", True),
        ('[tool."otel_posthog"]', True),
        ("[tool.other]\nname = 'otel_posthog'\n", False),
        ("[tool.otel_posthog_else]\n", False),
        ("# [tool.otel_posthog]\n", False),
    ],
)
def test_rules_of_the_apps_pyproject(tmp_path: Path, text: str, found: bool) -> None:
    """Without a named file the working directory's `pyproject.toml` counts if it has our table."""
    (tmp_path / "pyproject.toml").write_text(text)

    settings = load_settings(ON, directory=str(tmp_path))
    named = load_settings({**ON, "OTEL_POSTHOG_CONFIG": "rules.yaml"}, directory=str(tmp_path))

    path = str(tmp_path / "pyproject.toml") if found else ""
    assert RulesConfig(path=path) == settings.rules
    assert RulesConfig(path="rules.yaml") == named.rules


def test_a_closed_gate_reads_no_file(tmp_path: Path) -> None:
    """Off is inert: the working directory is not looked at."""
    (tmp_path / "pyproject.toml").write_text("[tool.otel_posthog]\n")

    assert RulesConfig() == load_settings({}, directory=str(tmp_path)).rules


SECRETS = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="%,;\"'`\\"), min_size=12, max_size=60
).map(lambda text: f"zq~{text}")  # nothing else that is shown can hold it by chance


@given(token=SECRETS, password=SECRETS)
def test_no_secret_in_settings_or_errors(token: str, password: str) -> None:
    """Neither the repr of the settings nor any message shows a token or a header's value."""
    from urllib.parse import quote

    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
        "OTEL_EXPORTER_OTLP_TOKEN": token,
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-key={quote(password, safe='')},broken entry {password}",
    }
    shown = repr(load_settings(environ))
    for wrong in (
        {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://me:{password}@a b"},
        {"OTEL_POSTHOG_MODE": f"phc_{token}"},
        {"OTEL_POSTHOG_QUEUE_SIZE": f"Bearer {token}"},
    ):
        try:
            shown += repr(load_settings({**environ, **wrong}))
        except ConfigError as error:
            shown += str(error)

    assert token not in shown
    assert password not in shown


LIGHT = """
import sys
import otel_posthog.config.settings
before = set(sys.modules)
import otel_posthog.config.load as load
load.load_settings({})
heavy = {"opentelemetry", "yaml", "urllib3", "requests", "ssl", "socket", "asyncio", "pathlib", "tomllib", "json",
         "http", "email", "argparse", "logging", "tempfile", "difflib"}
print(sorted(name for name in set(sys.modules) - before if name.partition(".")[0] in heavy))
"""


def test_the_import_is_light() -> None:
    """Every process with this package pays for it, also where it is off: nothing heavy is imported."""
    result = subprocess.run(
        [sys.executable, "-S", "-c", LIGHT],
        env={"PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parents[3])])},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert (result.stdout.strip(), result.stderr) == ("[]", "")


COLLECTOR = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://otelcol:4318",
    "OTEL_EXPORTER_OTLP_TOKEN": "of-the-collector",
}


@pytest.mark.parametrize(
    ("environ", "host", "token", "why"),
    [
        (ON, "direct", "direct", ""),
        ({}, "", "", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({**ON, "OTEL_POSTHOG_FLAGS": "false"}, "", "", "OTEL_POSTHOG_FLAGS is false"),
        (COLLECTOR, "", "", "set OTEL_POSTHOG_FLAGS_HOST and OTEL_POSTHOG_FLAGS_TOKEN"),
        ({**COLLECTOR, "OTEL_POSTHOG_FLAGS_HOST": "https://eu.posthog.com/i/"}, "", "", "set OTEL_POSTHOG_FLAGS_TOKEN"),
        (
            {
                **COLLECTOR,
                "OTEL_POSTHOG_FLAGS_HOST": "https://eu.i.posthog.com/i/",
                "OTEL_POSTHOG_FLAGS_TOKEN": "phc_flags",
            },
            "https://eu.i.posthog.com",
            "phc_flags",
            "",
        ),
        # The key of one host is never shown to another.
        ({**ON, "OTEL_POSTHOG_FLAGS_HOST": "https://flags.example"}, "", "", "set OTEL_POSTHOG_FLAGS_TOKEN"),
        ({**ON, "OTEL_POSTHOG_FLAGS_TOKEN": "phc_flags"}, "direct", "phc_flags", ""),
    ],
)
def test_whom_to_ask_for_flags(environ: dict[str, str], host: str, token: str, why: str) -> None:
    """The lane's PostHog in direct mode; in collector mode what the settings name, since a Collector knows no flags."""
    settings = load_settings(environ, directory="/nowhere")
    target, reason = flags_target(settings)

    if target is None:
        assert not host
        assert why in reason
    else:
        assert settings.lane is not None
        assert target.host == (settings.lane.url if host == "direct" else host)
        assert target.token == (settings.lane.token if token == "direct" else Secret(token))
        assert reason == ""


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("OTEL_POSTHOG_FLAGS_HOST", "flags.example", "the scheme is missing"),
        ("OTEL_POSTHOG_FLAGS_TOKEN", "phx_canary", "this is a personal or secret key"),
        ("OTEL_POSTHOG_FLAGS_SECRET_KEY", "phc_canary", "this is a project API key"),
    ],
)
def test_keys_of_flags_that_were_mixed_up(name: str, text: str, words: str) -> None:
    """Said at load, with the variable and the way out, and never with the key."""
    with pytest.raises(ConfigError, match=words) as raised:
        load_settings({**ON, name: text}, directory="/nowhere")

    assert raised.value.key == name
    assert "canary" not in str(raised.value)


def test_secrets_of_baggage(tmp_path: Path) -> None:
    """Those of the variable and those of the file, each once, the first one first; and none of them is ever shown."""
    file = tmp_path / "secrets"
    file.write_text("# rotated in May\n\n  a-secret-of-the-file \na-secret-of-the-variable\n")
    settings = load_settings(
        {
            **ON,
            "OTEL_POSTHOG_BAGGAGE_SECRET": "a-secret-of-the-variable",
            "OTEL_POSTHOG_BAGGAGE_SECRET_FILE": str(file),
        }
    )

    assert [secret.reveal() for secret in settings.identity.baggage_secrets] == [
        "a-secret-of-the-variable",
        "a-secret-of-the-file",
    ]
    assert "secret-of" not in repr(settings)
    (tmp_path / "broken").write_bytes(b"\xff\xfe")
    for wrong, words in ((tmp_path, "cannot be read"), (tmp_path / "broken", "it is no UTF-8 text")):
        with pytest.raises(ConfigError, match=words):
            load_settings(ON, baggage_secret_file=wrong)
    with pytest.raises(ConfigError) as raised:
        load_settings(ON, baggage_secret=["short-secret"])
    assert "short-secret" not in str(raised.value)
    assert load_settings(ON, baggage_secret=[Secret("x" * 16)]).identity.baggage_secrets == (Secret("x" * 16),)
