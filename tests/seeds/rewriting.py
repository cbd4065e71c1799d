"""What is done to a snippet before it runs: its imports are rewritten."""

from __future__ import annotations

import ast
from typing import Any

from otel_posthog import facades

MOVED = {"app.utils.posthog_features": "otel_posthog.facades", "apps.utils.analytics": "otel_posthog.facades"}
"""What becomes of imports; `FeatureFlags` is the app's own class."""
OWN = "world_flags"


class Moved(ast.NodeTransformer):
    """Rewrites the modules of imports, also where `mock.patch` names one as text."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        """`from` the old module: functions come from ours, the rest from the app."""
        if node.module not in MOVED:
            return node
        ours = [name for name in node.names if name.name in facades.__all__]
        own = [name for name in node.names if name not in ours]
        parts = ((MOVED[node.module], ours), (OWN, own))
        return [ast.copy_location(ast.ImportFrom(module, names, 0), node) for module, names in parts if names]

    def visit_Constant(self, node: ast.Constant) -> Any:
        """The dotted name of something to be patched."""
        if isinstance(node.value, str):
            module, _, name = node.value.rpartition(".")
            if module in MOVED:
                return ast.copy_location(ast.Constant(f"{MOVED[module]}.{name}"), node)
        return node


def tree_of(text: str) -> ast.Module:
    """The snippet with its imports rewritten; a block with nothing but a comment in it does nothing."""
    last = text.rstrip().rpartition("\n")[2]
    if last.lstrip().startswith("#"):
        text += f"{last[: len(last) - len(last.lstrip())]}pass\n"
    return ast.fix_missing_locations(Moved().visit(ast.parse(text)))


def in_function(tree: ast.Module) -> ast.Module:
    """The snippet as the body of a function, which gives what it returns and its own names."""
    tree.body.append(ast.parse("return locals()").body[0])
    function = ast.parse("def view(): pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    function.body = tree.body
    return ast.fix_missing_locations(ast.Module([function], []))
