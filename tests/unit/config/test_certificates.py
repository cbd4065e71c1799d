"""Which TLS files a lane gets, and what is said of those that cannot be used."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from otel_posthog.config.environment import SIGNALS, TLS_SETTINGS
from otel_posthog.config.load import load_settings
from otel_posthog.config.settings import Lane, Settings
from otel_posthog.errors import ConfigError
from tests.unit.delivery.secured import client_files, encrypt

E = "OTEL_EXPORTER_OTLP_"
COLLECTOR = {f"{E}ENDPOINT": "https://otelcol:4318", f"{E}TOKEN": "phc_Lane0123456789"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two authorities, two clients' certificates with keys, and what is none."""
    folder = tmp_path_factory.mktemp("certificates")
    made: dict[str, str] = {}
    for name in ("one", "two"):
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / f"{name}-ca.pem"))
        certificate, key = client_files(authority, folder, name)
        made |= {f"{name}-ca": str(folder / f"{name}-ca.pem"), name: str(certificate), f"{name}-key": str(key)}
    both, locked, text = folder / "both.pem", folder / "locked.key", folder / "text.pem"
    both.write_bytes(Path(made["one"]).read_bytes() + Path(made["one-key"]).read_bytes())
    locked.write_bytes(Path(made["one-key"]).read_bytes())
    encrypt(locked)
    text.write_text("no PEM")
    made |= {"both": str(both), "locked": str(locked), "text": str(text), "folder": str(folder)}
    return made | {"gone": str(folder / "gone.pem")}


def load(**environ: str) -> Settings:
    """Settings of a Collector behind TLS."""
    return load_settings({**COLLECTOR, **environ})


def used(lane: Lane | None) -> tuple[str, str, str]:
    """The files of a lane."""
    assert lane is not None
    return lane.ca_file, lane.client_cert, lane.client_key


def test_none_by_default() -> None:
    """The system's roots and no certificate of ours; blank is unset."""
    assert used(load().lane) == ("", "", "")
    assert used(load(**{f"{E}{setting}": "  " for setting in TLS_SETTINGS}).lane) == ("", "", "")


def test_the_general_ones(files: dict[str, str]) -> None:
    """All three reach the lane."""
    settings = load(
        **{
            f"{E}CERTIFICATE": files["one-ca"],
            f"{E}CLIENT_CERTIFICATE": files["one"],
            f"{E}CLIENT_KEY": files["one-key"],
        }
    )
    assert used(settings.lane) == (files["one-ca"], files["one"], files["one-key"])


def test_the_logs_own_win(files: dict[str, str]) -> None:
    """Each by itself, as the standard exporter has it: what the logs do not name is the general one."""
    settings = load(
        **{
            f"{E}CERTIFICATE": files["one-ca"],
            f"{E}LOGS_CERTIFICATE": files["two-ca"],
            f"{E}CLIENT_CERTIFICATE": files["gone"],
            f"{E}LOGS_CLIENT_CERTIFICATE": files["one"],
            f"{E}CLIENT_KEY": files["one-key"],
            f"{E}TRACES_CERTIFICATE": files["gone"],
        }
    )
    assert used(settings.lane) == (files["two-ca"], files["one"], files["one-key"])


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_endpoint_s_own_signal_decides(files: dict[str, str], signal: str) -> None:
    """A lane to the traces' endpoint uses the traces' files, not another signal's."""
    others = {f"{E}{other.upper()}_CERTIFICATE": files["gone"] for other in SIGNALS if other != signal}
    settings = load_settings(
        {
            f"{E}TOKEN": "phc_Lane0123456789",
            f"{E}{signal.upper()}_ENDPOINT": f"https://otelcol:4318/v1/{signal}",
            f"{E}{signal.upper()}_CERTIFICATE": files["two-ca"],
            **others,
        }
    )
    assert used(settings.lane) == (files["two-ca"], "", "")


def test_direct_lanes_too(files: dict[str, str]) -> None:
    """A self-hosted PostHog, or a proxy that looks into TLS, has roots of its own."""
    settings = load_settings({**COLLECTOR, f"{E}ENDPOINT": "https://ph.test/i", f"{E}CERTIFICATE": files["one-ca"]})
    assert used(settings.lane) == (files["one-ca"], "", "")


def test_each_of_two_lanes_has_its_own(files: dict[str, str]) -> None:
    """With PostHog beside a Collector the logs' files are the Collector's alone."""
    settings = load_settings(
        {
            f"{E}TOKEN": "phc_Lane0123456789",
            f"{E}TRACES_ENDPOINT": "https://eu.i.posthog.com/i/v1/traces",
            f"{E}LOGS_ENDPOINT": "https://otelcol:4318/v1/logs",
            f"{E}LOGS_CERTIFICATE": files["one-ca"],
            f"{E}LOGS_CLIENT_CERTIFICATE": files["both"],
        },
        sink="both",
    )
    assert used(settings.lane) == ("", "", "")
    assert used(settings.also) == (files["one-ca"], files["both"], "")


def test_an_argument_takes_them_along_to_the_same_place_only(files: dict[str, str]) -> None:
    """As with headers: what is meant for one server shows up at no other."""
    environ = {**COLLECTOR, f"{E}CLIENT_CERTIFICATE": files["both"]}
    assert used(load_settings(environ, endpoint="https://otelcol:4318").lane) == ("", files["both"], "")
    assert used(load_settings(environ, endpoint="https://elsewhere:4318").lane) == ("", "", "")


def test_without_tls_they_are_not_looked_at(files: dict[str, str]) -> None:
    """An http endpoint has no use for them."""
    settings = load(**{f"{E}ENDPOINT": "http://otelcol:4318", f"{E}CERTIFICATE": files["gone"]})
    assert used(settings.lane) == ("", "", "")


def test_with_the_gate_shut_they_are_not_looked_at(files: dict[str, str]) -> None:
    """They belong to the standard exporters then, and are no affair of ours."""
    settings = load_settings({f"{E}ENDPOINT": "https://otelcol:4318", f"{E}CERTIFICATE": files["gone"]})
    assert (settings.enabled, settings.warnings) == (False, ())


def test_a_key_without_a_certificate(files: dict[str, str]) -> None:
    """It is told to be without effect, as it is with the standard exporters."""
    settings = load(**{f"{E}LOGS_CLIENT_KEY": files["one-key"]})
    assert used(settings.lane) == ("", "", "")
    assert settings.warnings == (
        "OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY is set without a client certificate, and so without effect",
    )


def test_a_directory_of_authorities(files: dict[str, str]) -> None:
    """Taken as it is: what is in it is looked up by hash when a server shows its certificate."""
    assert used(load(**{f"{E}CERTIFICATE": files["folder"]}).lane) == (files["folder"], "", "")


@pytest.mark.parametrize(
    ("environ", "variable", "what"),
    [
        ({"CERTIFICATE": "gone"}, "CERTIFICATE", r"gone\.pem' cannot be read \(No such file or directory\)"),
        ({"LOGS_CERTIFICATE": "gone"}, "LOGS_CERTIFICATE", "Name a PEM file of your CA's certificates"),
        ({"CERTIFICATE": "text"}, "CERTIFICATE", "holds no certificates"),
        ({"CERTIFICATE": "one-key"}, "CERTIFICATE", "holds no certificates"),
        ({"CLIENT_CERTIFICATE": "gone"}, "CLIENT_CERTIFICATE", "cannot be read"),
        ({"CLIENT_CERTIFICATE": "folder"}, "CLIENT_CERTIFICATE", r"cannot be read \(Is a directory\)"),
        ({"CLIENT_CERTIFICATE": "one"}, "CLIENT_CERTIFICATE", "without a passphrase"),
        ({"CLIENT_CERTIFICATE": "one", "CLIENT_KEY": "gone"}, "CLIENT_KEY", "cannot be read"),
        ({"CLIENT_CERTIFICATE": "one", "CLIENT_KEY": "two-key"}, "CLIENT_KEY", "not the key of the certificate in"),
        ({"CLIENT_CERTIFICATE": "one", "CLIENT_KEY": "locked"}, "CLIENT_KEY", "perhaps the key is encrypted"),
        ({"CLIENT_CERTIFICATE": "text", "CLIENT_KEY": "one-key"}, "CLIENT_KEY", "or one is no PEM file"),
    ],
)
def test_what_cannot_be_used(files: dict[str, str], environ: dict[str, str], variable: str, what: str) -> None:
    """The message names the variable and the way out."""
    with pytest.raises(ConfigError, match=rf"^`{E}{variable}` \(environment\): .*{what}"):
        load(**{f"{E}{name}": files[file] for name, file in environ.items()})


def test_a_name_with_a_nul_in_it() -> None:
    """No file can have it; `open` says so by another exception."""
    with pytest.raises(ConfigError, match=re.escape(f"`{E}CERTIFICATE`")):
        load(**{f"{E}CERTIFICATE": "a\0b"})


def test_nobody_is_asked_for_a_passphrase(files: dict[str, str]) -> None:
    """OpenSSL would ask on the terminal, before the app is up."""
    code = """
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    from otel_posthog.config.load import load_settings
    try:
        load_settings()
    except Exception as error:
        os._exit(7 if "passphrase" in str(error) else 1)
    os._exit(0)
said = b""
try:
    while piece := os.read(terminal, 1024):
        said += piece
except OSError:
    pass
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode())
"""
    environ = {**COLLECTOR, f"{E}CLIENT_CERTIFICATE": files["one"], f"{E}CLIENT_KEY": files["locked"]}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=environ,
        cwd=Path.cwd(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.stdout.strip(), ended.stderr) == ("7", "")
