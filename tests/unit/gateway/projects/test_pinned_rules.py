"""Rules of the past, beside the spool."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_posthog.config.settings import Lane, Mode, Secret
from otel_posthog.errors import ConfigError
from otel_posthog.gateway.configuration.project_rules import load_project_rules, restore_rules
from otel_posthog.gateway.configuration.settings import ProjectSettings
from otel_posthog.gateway.projects import pinned_rules
from otel_posthog.gateway.projects.pinned_rules import PinnedRules

RULES = """\
# a comment with a password: canary-in-a-comment
x-anchors: {note: canary-in-an-anchor}
rules:
  - name: paid
    match:
      kind: log
      body: {regex: "^order \\\\d+ paid\\\\x7f?"}
      attributes: {x-shop: [a, 1, 2.5, true], "odd \\U0001F600 \\x7f": {exists: true}}
      any: [{field: a, gte: 1.5e3}, {field: b, equals: "0x10"}, {field: c, not_glob: ["*x", "?y"]}]
    capture:
      event: "order {state}"
      properties: {list: [1, "{a|b}"], flag: {field: c, exists: true}}
      include: ["shop.*"]
    group: {company: "{company}"}
    group_set: {company: {size: 3}}
"""


def project(folder: Path, text: str = RULES, *, defaults: bool = False, name: str = "rules.yaml") -> ProjectSettings:
    """A project with these rules."""
    (folder / name).write_text(text)
    made = load_project_rules([str(folder / name)], defaults=defaults)
    lane = Lane(Mode.DIRECT, "https://eu.i.posthog.com", Secret("phc_x"))
    return ProjectSettings("shop", lane, made.rules, made.documents)


@pytest.mark.parametrize("defaults", [False, True])
def test_what_is_kept_means_the_same(tmp_path: Path, defaults: bool) -> None:
    """Every kind of value of the language comes back with its meaning: the digest is that of the meaning."""
    kept = project(tmp_path, defaults=defaults)
    assert restore_rules(kept.documents, kept.rules.digest).names == kept.rules.names
    assert len(kept.rules.digest) == 32


def test_a_pyproject_keeps_its_other_tables(tmp_path: Path) -> None:
    """Of a `pyproject.toml` only our table is kept: what else is in it may be secret."""
    text = """\
[tool.uv]
index-url = "https://user:canary-of-an-index@example.com"
[[tool.otel_posthog.rules]]
name = "paid"
match = { name = "pay" }
capture = "paid"
"""
    kept = project(tmp_path, text, name="pyproject.toml")
    assert "canary" not in kept.documents
    assert restore_rules(kept.documents, kept.rules.digest).names == ("paid",)


@pytest.mark.row(41)
def test_comments_and_anchors_are_not_kept(tmp_path: Path) -> None:
    """Neither says what the rules mean."""
    assert "canary" not in project(tmp_path).documents


def test_files(tmp_path: Path) -> None:
    """One file for each digest, for its owner alone, written once and never half."""
    kept = project(tmp_path)
    spool = tmp_path / "deep" / "spool"
    PinnedRules(str(spool)).keep([kept, kept])
    (file,) = (spool / "rules").iterdir()
    assert file.name == f"{kept.rules.digest}.json"
    assert [path.stat().st_mode & 0o777 for path in (file, file.parent, spool)] == [0o600, 0o700, 0o700]
    before = file.stat().st_mtime_ns
    PinnedRules(str(spool)).keep([kept])
    assert file.stat().st_mtime_ns == before
    file.write_text("half")
    PinnedRules(str(spool)).keep([kept])
    assert json.loads(file.read_text())["format"] == 1


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"format": 2}', '{"format": 1, "documents": [1]}', "[" * 100_000]
)
def test_a_damaged_file_is_not_used(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """Rules that are not what their name says would make other events, silently: they are not used, and it is said."""
    kept = project(tmp_path)
    pins = PinnedRules(str(tmp_path))
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / f"{kept.rules.digest}.json").write_text(text)
    assert pins.rules("shop", kept.rules.digest) is None
    assert "converted by those of today" in caplog.text


def test_other_rules_under_a_digest(tmp_path: Path) -> None:
    """The digest is compared: a file under a wrong name, or one that a new version reads otherwise."""
    kept = project(tmp_path)
    with pytest.raises(ConfigError, match="read differently"):
        restore_rules(kept.documents, "0" * 32)


@pytest.mark.parametrize("digest", ["../../etc/passwd", "x" * 32, "A" * 32, ".", "/"])
def test_a_digest_that_is_none(tmp_path: Path, digest: str) -> None:
    """What stands in a spooled record is never a path."""
    assert PinnedRules(str(tmp_path)).rules("shop", digest) is None


def test_no_rules_at_all(tmp_path: Path) -> None:
    """The empty digest is that of no rules, and needs no file; without a spool nothing is written."""
    assert len(PinnedRules(str(tmp_path)).rules("shop", "") or ()) == 0
    kept = project(tmp_path)
    for pins in (PinnedRules(""), PinnedRules(str(tmp_path), keeping=False)):
        pins.keep([kept])
        assert pins.rules("shop", kept.rules.digest) is kept.rules
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rules.yaml"]


def test_what_is_forgotten_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded; the files are not forgotten."""
    monkeypatch.setattr(pinned_rules, "_MAX_KNOWN", 2)
    pins = PinnedRules(str(tmp_path))
    kept = [project(tmp_path, RULES.replace("name: paid", f"name: paid {number}")) for number in range(5)]
    pins.keep(kept)
    for each in kept:
        found = pins.rules("shop", each.rules.digest)
        assert found is not None
        assert found.names == each.rules.names
