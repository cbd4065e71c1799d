"""Every fault of a rules file has a file of its own, with the whole message beside it (`*.expected`)."""

from pathlib import Path

import pytest

from otel_posthog.config.settings import RulesConfig
from otel_posthog.errors import RulesError
from otel_posthog.rules.document import MAX_BYTES
from otel_posthog.rules.load import load_rules

TESTDATA = Path(__file__).with_name("testdata")
BAD = sorted(path for path in TESTDATA.rglob("*") if path.suffix in (".yaml", ".toml") and "bad_" in str(path))


def expected_of(path: Path) -> Path:
    """The file with the message: beside `bad_x.yaml`, or in the folder of a file whose name is fixed."""
    return path.with_name(f"{path.stem}.expected")


@pytest.mark.parametrize("path", BAD, ids=lambda path: str(path.relative_to(TESTDATA)))
def test_message(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad file is refused at load, with file, line, key and the way out."""
    monkeypatch.chdir(TESTDATA)
    with pytest.raises(RulesError) as caught:
        load_rules(RulesConfig(path=str(path.relative_to(TESTDATA))))

    assert expected_of(path).read_text(encoding="utf-8").rstrip("\n") == str(caught.value)


def test_every_expectation_has_its_file() -> None:
    """No message is kept for a file that is gone."""
    assert {expected_of(path) for path in BAD} == set(TESTDATA.rglob("*.expected"))


def test_missing_file(tmp_path: Path) -> None:
    """A path that leads nowhere is named, with the variable that holds it."""
    with pytest.raises(RulesError) as caught:
        load_rules(RulesConfig(path="nowhere/rules.yaml"))

    assert str(caught.value) == (
        "nowhere/rules.yaml: the rules file cannot be read: No such file or directory. "
        "Mend the path in OTEL_POSTHOG_CONFIG, or unset it to run without rules"
    )


def test_directory(tmp_path: Path) -> None:
    """A directory is no rules file."""
    with pytest.raises(RulesError, match="the rules file cannot be read: Is a directory"):
        load_rules(RulesConfig(path=str(tmp_path)))


def test_huge_file(tmp_path: Path) -> None:
    """A file beyond the limit is refused before anything reads it as YAML."""
    path = tmp_path / "rules.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))

    with pytest.raises(RulesError, match="larger than 1024 KiB"):
        load_rules(RulesConfig(path=str(path)))


def test_attributes_of_the_error(tmp_path: Path) -> None:
    """Programs find file, line and key as attributes."""
    path = tmp_path / "rules.yaml"
    path.write_text("rules:\n  - name: paid\n    match: {name: pay}\n    captur: paid\n")

    with pytest.raises(RulesError) as caught:
        load_rules(RulesConfig(path=str(path)))

    assert (caught.value.file, caught.value.line, caught.value.key) == (str(path), 4, "rules[0].captur")


@pytest.mark.parametrize(
    "text",
    [
        b"{" * 100_000,
        b"[" * 100_000,
        b"- " * 100_000,
        b"a: " * 50_000,
        b"!!map {" * 1000,
        b"&a " * 1000,
        b"? " * 10_000,
    ],
    ids=["braces", "brackets", "dashes", "colons", "tags", "anchors", "question marks"],
)
def test_hostile_nesting(text: bytes, tmp_path: Path) -> None:
    """Whatever is nested, a RulesError comes of it, never a crash."""
    path = tmp_path / "rules.yaml"
    path.write_bytes(text)

    with pytest.raises(RulesError):
        load_rules(RulesConfig(path=str(path)))
