"""Regular expressions that could hang a process are refused at load.

Python's engine backtracks: `(a+)+b` takes time exponential in the length of a hostile attribute value, on a thread that
other telemetry waits for. A repeat without limit inside a repeat without limit is what makes that happen.
"""

from __future__ import annotations

import re
import warnings
from typing import Any, Final, cast

MAX_TEXT: Final = 4096
"""Characters of a value that a pattern sees. What is not refused (quadratic patterns) is harmless on that much text."""


def slow_part(pattern: str) -> str:
    """Describes the nested unlimited repeat of a valid `pattern`, "" where there is none."""
    with warnings.catch_warnings():
        # 3.10 calls it `sre_parse`, later versions `re._parser`; same function, same tree.
        warnings.simplefilter("ignore", DeprecationWarning)
        parser: Any = getattr(re, "_parser", None)
        if parser is None:
            import sre_parse as parser
        tree = parser.parse(pattern)
    return "an unlimited repeat inside an unlimited repeat" if _nested(tree, inside=False) else ""


def _nested(tree: Any, *, inside: bool) -> bool:
    for operation, argument in cast("list[tuple[Any, Any]]", list(tree)):
        name = str(operation)
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            unlimited = str(argument[1]) == "MAXREPEAT"
            # A body that can be read in one way only (`(ab)*`) is linear; one with a repeat in it is not.
            if (unlimited and inside) or _nested(argument[2], inside=inside or unlimited):
                return True
        elif name == "BRANCH":
            if any(_nested(branch, inside=inside) for branch in argument[1]):
                return True
        elif isinstance(argument, (list, tuple)):
            for part in cast("list[Any]", argument):
                if type(part).__name__ == "SubPattern" and _nested(part, inside=inside):
                    return True
    return False
