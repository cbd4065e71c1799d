"""Which tokens are good, from where, and when they change."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_posthog.errors import ConfigError
from otel_posthog.gateway.receivers import Credentials, Listen, TokenSource, check_listen
from tests.unit.gateway.receivers.rig import tokens, write


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# --- who is it -----------------------------------------------------------------------------------------------------


@pytest.mark.row(39)
@pytest.mark.parametrize(
    ("header", "caller"),
    [
        ("Bearer one", "ada"),
        ("bearer one", "ada"),
        ("BEARER   one  ", "ada"),
        ("Bearer two", "bob"),
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearer One", None),
        ("Bearer on", None),
        ("Bearer onee", None),
        ("Bearer one two", None),
        ("Bearer one,", None),
        ("Bearer one\n", None),
        ("Bearer one\r\nX: y", None),
        ("Bearer\tone", None),
        ("Bearer one\0", None),
        ("Bearer on\u00e9", None),
        ("Bearer \ud83eone", None),
        ("Basic one", None),
        ("one", None),
        ("Bearer " + "one" * 5000, None),
    ],
)
def test_callers(header: str | None, caller: str | None) -> None:
    """The whole token counts, and nothing but it; only the scheme has no case."""
    assert tokens(ada="one", bob="two").caller(header) == caller


def test_without_sources_nobody_is_asked() -> None:
    """Everyone is the caller without a name."""
    credentials = Credentials()
    assert (credentials.required, credentials.caller(None), credentials.caller("Bearer x")) == (False, "", "")


def test_every_token_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after the right one, in constant time, on digests of one length."""
    compared: list[tuple[int, int]] = []

    def compare(known: bytes, shown: bytes) -> bool:
        compared.append((len(known), len(shown)))
        return known == shown

    credentials = tokens(a="first", b="second-which-is-longer", c="third")
    monkeypatch.setattr("otel_posthog.gateway.receivers.credentials.hmac.compare_digest", compare)
    assert credentials.caller("Bearer first") == "a"
    assert compared == [(32, 32)] * 3


@pytest.mark.row(41)
def test_no_token_is_ever_shown() -> None:
    """Not by the credentials, their sources or anything they hold."""
    credentials = tokens(ada="canary-4711")
    assert "canary" not in repr(credentials) + repr(vars(credentials)["_known"]) + repr(vars(credentials)["_sources"])


# --- where tokens come from ----------------------------------------------------------------------------------------


def test_files_have_one_token_a_line(tmp_path: Path) -> None:
    """Blank lines and comments are none; spaces around one are not part of it."""
    file = tmp_path / "tokens"
    write(file, "# since Monday\n\n  new-one  \r\nold-one\n")
    credentials = Credentials([TokenSource("ada", file=file), TokenSource("bob", env="BOB")], environ={"BOB": " b \n"})
    shown = ["new-one", "old-one", "b", "# since Monday", "#"]
    assert [credentials.caller(f"Bearer {token}") for token in shown] == ["ada", "ada", "bob", None, None]


def _absent(_: Path) -> None: ...


def _folder(file: Path) -> None:
    file.mkdir()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_absent, "cannot be read: No such file"),
        (_folder, "cannot be read: Is a directory"),
        (lambda file: file.write_bytes(b"caf\xe9-canary"), "cannot be read: it is no UTF-8 text"),
        (lambda file: file.write_text(""), "has no token for caller `ada`"),
        (lambda file: file.write_text("# nothing\n\n"), "has no token for caller `ada`"),
        (lambda file: file.write_text("two canaries\n"), "no header can carry"),
        (lambda file: file.write_text("can\u00e4ry\n", encoding="utf-8"), "no header can carry"),
        (lambda file: file.write_text("can\0ary\n"), "no header can carry"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    """At start, by name, and without a word of what is in them."""
    file = tmp_path / "tokens"
    make(file)
    with pytest.raises(ConfigError, match=said) as caught:
        Credentials([TokenSource("ada", file=file)])
    assert caught.value.key == str(file)
    assert "canar" not in str(caught.value).replace(str(tmp_path), "")
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("environ", [{}, {"ADA": ""}, {"ADA": "  "}])
def test_variables_that_are_not_set(environ: dict[str, str]) -> None:
    """The variable is named."""
    with pytest.raises(ConfigError, match="`ADA`: has no token for caller `ada`"):
        Credentials([TokenSource("ada", env="ADA")], environ=environ)


@pytest.mark.parametrize(
    "source", [TokenSource("ada"), TokenSource("ada", env="A", file=Path("a")), TokenSource("", env="A")]
)
def test_sources_that_are_none(source: TokenSource) -> None:
    """Each has a caller and one place."""
    with pytest.raises(ConfigError, match="either `env` or `file`"):
        Credentials([source], environ={"A": "x"})


def test_one_token_has_one_caller() -> None:
    """Else nobody could say whose data it is; the same caller may have it twice."""
    with pytest.raises(ConfigError, match="a token of caller `bob` is also one of `ada`") as caught:
        tokens(ada="canary", bob="canary")
    assert "canary" not in str(caught.value)
    same = Credentials([TokenSource("ada", env="A"), TokenSource("ada", env="B")], environ={"A": "x", "B": "x"})
    assert same.caller("Bearer x") == "ada"


# --- when they change ----------------------------------------------------------------------------------------------


@pytest.mark.row(39)
def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """At use, and looked at no more than once a second."""
    clock, file = Clock(), tmp_path / "tokens"
    write(file, "old")
    credentials = Credentials([TokenSource("ada", file=file)], monotonic=clock)
    write(file, "old\nnew")
    clock.now += 0.9
    assert credentials.caller("Bearer new") is None
    clock.now += 0.2
    assert [credentials.caller(f"Bearer {token}") for token in ("old", "new")] == ["ada", "ada"]
    write(file, "new")
    clock.now += 1.1
    assert [credentials.caller(f"Bearer {token}") for token in ("old", "new")] == [None, "ada"]


def test_a_mounted_secret_changes_by_its_link(tmp_path: Path) -> None:
    """As Kubernetes does it: the name stays, what it points to is another."""
    clock = Clock()
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        write(tmp_path / version / "token", version)
        # The same time and size: only the file itself is another.
        os.utime(tmp_path / version / "token", (1, 1))
    (tmp_path / "data").symlink_to("v1")
    credentials = Credentials([TokenSource("ada", file=tmp_path / "data" / "token")], monotonic=clock)
    assert credentials.caller("Bearer v1") == "ada"
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").replace(tmp_path / "data")
    clock.now += 1.1
    assert [credentials.caller(f"Bearer {token}") for token in ("v1", "v2")] == [None, "ada"]


@pytest.mark.parametrize("bad", ["", "two canaries", None])
def test_a_bad_file_keeps_the_old_and_says_so(
    tmp_path: Path, bad: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Senders go on; when the file is mended, it counts."""
    clock, file = Clock(), tmp_path / "tokens"
    write(file, "old")
    credentials = Credentials([TokenSource("ada", file=file)], monotonic=clock)
    if bad is None:
        file.unlink()
    else:
        write(file, bad)
    with pytest.raises(ConfigError):
        credentials.reload()
    assert credentials.caller("Bearer old") == "ada"
    clock.now += 1.1
    assert credentials.caller("Bearer old") == "ada"
    [message] = [record.getMessage() for record in caplog.records]
    assert str(file) in message
    assert message.endswith("the tokens known so far stay good")
    assert "canaries" not in message
    write(file, "new")
    clock.now += 1.1
    assert [credentials.caller(f"Bearer {token}") for token in ("old", "new")] == [None, "ada"]


def test_reload_reads_at_once() -> None:
    """Variables too, as after a signal."""
    environ = {"A": "old"}
    credentials = Credentials([TokenSource("ada", env="A")], environ=environ)
    environ["A"] = "new"
    assert credentials.caller("Bearer old") == "ada"
    credentials.reload()
    assert [credentials.caller(f"Bearer {token}") for token in ("old", "new")] == [None, "ada"]
    Credentials().reload()


# --- where one may listen without ----------------------------------------------------------------------------------


@pytest.mark.row(39)
@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST", "::ffff:127.0.0.1"])
def test_loopback_needs_no_token(host: str) -> None:
    """Nobody else is there."""
    check_listen([Listen(host, 4317), None], Credentials())


@pytest.mark.row(39)
@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "", "10.0.0.1", "gateway", "localhost.example.com", "127.0.0.1.example.com", "::ffff:10.0.0.1"],
)
def test_a_network_needs_a_token(host: str) -> None:
    """The message names the address and each way out; each of these does let it pass."""
    addresses = [Listen("127.0.0.1", 4317), Listen(host, 4318)]
    with pytest.raises(ConfigError, match=r"reachable from other machines.*allow_unauthenticated: true") as caught:
        check_listen(addresses, Credentials())
    assert str(Listen(host, 4318)) in str(caught.value)
    check_listen(addresses, tokens(ada="x"))
    check_listen(addresses, Credentials(), allow_unauthenticated=True)
    check_listen(addresses, Credentials(), client_certificates=True)


def test_other_sources_take_over_or_nothing_changes() -> None:
    """As when the configuration is read again; between the two there is no moment without a check."""
    credentials = tokens(ada="one")
    with pytest.raises(ConfigError, match="`BOB`: has no token"):
        credentials.replace([TokenSource("bob", env="BOB")], {})
    assert [credentials.caller(f"Bearer {token}") for token in ("one", "two")] == ["ada", None]
    credentials.replace([TokenSource("bob", env="BOB")], {"BOB": "two"})
    assert [credentials.caller(f"Bearer {token}") for token in ("one", "two")] == [None, "bob"]
    opened = Credentials()
    opened.replace([TokenSource("ada", env="ADA")], {"ADA": "one"})
    assert (opened.required, opened.caller(None), opened.caller("Bearer one")) == (True, None, "ada")
