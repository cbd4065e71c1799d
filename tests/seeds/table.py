"""Writes the table of all snippets: `python -m tests.seeds.table`. A test compares `README.md` with it."""

from __future__ import annotations

import ast
from itertools import groupby

from otel_posthog import facades
from tests.seeds.expected import EXPECTED, Outcome
from tests.seeds.extract import HERE, Snippet, committed
from tests.seeds.rewriting import tree_of

FILE = HERE / "README.md"
STATES = {"on": "flags on", "off": "flags off", "down": "no answer"}
HEAD = """# The snippets of the seed documents

Written by `python -m tests.seeds.table`, compared by a test. The documents describe how apps of other authors called
PostHog; they are no part of this repository. Their Python snippets are kept in `snippets.json` as they were written;
`python tests/seeds/extract.py DIR` takes them out of the documents, and with `SEED_DOCUMENTS=DIR` a test compares.

Each runs with only its imports rewritten, in the world of `world.py`: a Flask app in a process of its own with somebody
logged in, against a local PostHog, four times: all flags on, all off, no answer about flags, and the gate shut.
`expected.py` has the whole outcome of each, and what the documents' own code gave instead. Three things are given to
them: a `return` makes a snippet the body of a view, a block that is only a comment does nothing, and data goes through
the call that takes it. Blocks in other languages (JavaScript, YAML, shell, nginx) are not here.

"`$feature/…` on what follows" means that later events of the request carry the answer; "goes on" that the code after
the snippet runs. With the gate shut all is as without an answer, and nothing is sent.

"""


def table() -> str:
    """The page."""
    snippets = committed()
    run = [each for each in snippets if each.name in EXPECTED]
    pages = [each for each in snippets if each.kind == "template"]
    rest = [each for each in snippets if each.later]
    parts = [
        HEAD,
        f"{len(snippets)} snippets: {len(run)} run, {len(pages)} are templates of theirs, {len(rest)} are elsewhere.\n",
    ]
    for document, rows in groupby(snippets, lambda each: each.document):
        parts.append(f"\n## {document}\n\n| Line | Below | Uses | Comes of it |\n| --- | --- | --- | --- |\n")
        parts += [f"| {each.line} | {each.heading.rstrip(':')} | {uses(each)} | {comes(each)} |\n" for each in rows]
    return "".join(parts)


def uses(snippet: Snippet) -> str:
    """The façades that it needs, or that take its data."""
    if snippet.kind != "python":
        return "–"
    tree = tree_of(snippet.text)
    named = {node.id if isinstance(node, ast.Name) else node.attr for node in ast.walk(tree) if _is_name(node)}
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names}
    found = sorted((named | imported) & {*facades.__all__, "FeatureFlags"})
    first = tree.body[0]
    if not found and isinstance(first, ast.Expr) and isinstance(first.value, ast.Dict):
        keys = {key.value for key in first.value.keys if isinstance(key, ast.Constant)}
        call = "identify_user" if "$set" in keys else "group_identify" if "group_type" in keys else "track_event"
        return f"data of `{call}`"
    if not found:
        return "`get_feature_flag`" if "get_feature_flag" in snippet.text else "data of `get_feature_flag`"
    return ", ".join(f"`{name}`" for name in found)


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, (ast.Name, ast.Attribute))


def comes(snippet: Snippet) -> str:
    """What the outcomes are, in short; or what covers it."""
    if snippet.later:
        return f"elsewhere: {snippet.later}"
    if snippet.kind == "template":
        return "rendered by the snippet before it"
    if uses(snippet) == "data of `track_event`":
        return "on the events of a request"
    states = EXPECTED[snippet.name]
    said = {STATES[state]: _short(outcome) for state, outcome in states.items()}
    if len(set(said.values())) == 1:
        return said["flags on"]
    return "; ".join(f"{state}: {text}" for state, text in said.items())


def _short(outcome: Outcome) -> str:
    parts = [f"`{name}`" for name, _ in outcome.events if name != "afterwards"]
    later = dict(outcome.events).get("afterwards", {})
    parts += [f"`{name}` on what follows" for name in later if name != "$active_feature_flags"]
    parts += [f"{name} = `{value}`" for name, value in (outcome.names or {}).items() if name != "restored"]
    if outcome.person is not None and outcome.person != [200, ""]:
        status, text = outcome.person
        parts.append(f"{status} {text}" if status == 200 and len(text) < 40 and "<" not in text else f"{status}")
    if outcome.nobody is not None:
        parts.append(f"nobody {outcome.nobody[0]}")
    return ", ".join(parts) or ("nothing but names" if outcome.person is None else "goes on")


if __name__ == "__main__":
    FILE.write_text(table(), encoding="utf-8")
