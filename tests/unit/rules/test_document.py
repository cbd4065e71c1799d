"""Text to tree: the core schema of YAML 1.2, strict."""

from typing import Any

import pytest

from otel_posthog.rules.document import Node, parse_document


def plain(node: Node) -> Any:
    """The tree as plain values."""
    if node.mapping is not None:
        return {name: plain(entry.node) for name, entry in node.mapping.items()}
    if node.sequence is not None:
        return [plain(member) for member in node.sequence]
    return node.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("off", "off"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("12", 12),
        ("-12", -12),
        ("012", 12),
        ("0x1F", 31),
        ("0o17", 15),
        ("12:30:45", "12:30:45"),
        ("2026-11-20", "2026-11-20"),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1_000", "1_000"),
        ("99999999999999999999999", "99999999999999999999999"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("! 12", "12"),
        ("a: b # c", {"a": "b"}),
        ("on: start", {"on": "start"}),
        ("1: x", {"1": "x"}),
        ("null: x", {"null": "x"}),
    ],
)
def test_scalars(text: str, value: Any) -> None:
    """YAML 1.2, as editors read it: `on` is a word, a time is text."""
    assert plain(parse_document(text.encode(), "x.yaml")[0]) == value


def test_lines() -> None:
    """Keys and members know their lines."""
    root, _ = parse_document(b"# c\na:\n  - x\n  -\n    b: 1\n", "x.yaml")
    assert root.mapping is not None
    entry = root.mapping["a"]
    members = entry.node.sequence or []

    assert (entry.line, [member.line for member in members]) == (2, [3, 5])


def test_merge_keys() -> None:
    """`<<` fills in what is not there; earlier mappings win over later ones, the own keys over all."""
    text = b"x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {<<: [*x, *y], a: 0}\nw: {a: 0, <<: *x}\n"

    assert plain(parse_document(text, "x.yaml")[0])["z"] == {"a": 0, "b": 1, "c": 2}
    assert plain(parse_document(text, "x.yaml")[0])["w"] == {"a": 0, "b": 1}


def test_byte_order_mark() -> None:
    """A byte order mark, as some editors write, is no content."""
    assert plain(parse_document(b"\xef\xbb\xbfa: 1", "x.yaml")[0]) == {"a": 1}


def test_windows_line_ends() -> None:
    """CRLF ends a line like LF."""
    root, _ = parse_document(b"a: 1\r\nb: 2\r\n", "x.yaml")

    assert root.mapping is not None
    assert [entry.line for entry in root.mapping.values()] == [1, 2]


def test_json_is_yaml() -> None:
    """A JSON file is a YAML file."""
    assert plain(parse_document(b'{"a": [1, true, null, "x"]}', "x.json")[0]) == {"a": [1, True, None, "x"]}
