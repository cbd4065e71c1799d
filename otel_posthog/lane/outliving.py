"""Whose it is what outlives a request: a thread has the context of the request that started it for its whole life.

Most of it finishes what the request has begun, and is its person's. But a worker that the first request happened to
start serves everybody later. Nothing in a context tells the two apart, except that the worker names somebody else
(docs/decisions/0139).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from otel_posthog.context.work import Work
from otel_posthog.convert.person import person_id
from otel_posthog.lane.identity import STATED
from otel_posthog.lane.internals import attributes_of
from otel_posthog.lane.roots import Roots

_KEPT: Final = 2_048
"""Traces of which is remembered whom they named; the oldest are forgotten first."""
_NAMES: Final = 50
"""People that one of them may name."""
_NOBODY: Final[frozenset[str]] = frozenset()


class Outliving:
    """Tells requests that are over from those at work, and their people from others. Safe in any thread.

    Args:
        roots: The local roots.
    """

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        # Whom the calls of a request named while it was at work, by trace: an app that always says whose an event is
        # need not identify anybody.
        self._named: dict[int, set[str]] = {}

    def is_over(self, work: Work | None, span: Any, trace_id: int) -> bool:
        """Whether the request is over whose context a call is made in.

        Args:
            work: The unit of work of the context.
            span: The current one.
            trace_id: Its trace; 0 for none.
        """
        if work is not None:
            if work.managed or work.has_ended:
                return work.has_ended
            if work.left is not None:
                return work.left == trace_id
        return bool(trace_id) and self._roots.is_over(trace_id, span)

    def is_anothers(self, said: Any, work: Work | None, span: Any, trace_id: int) -> bool:
        """Whether a call names somebody who has nothing to do with the request of its context, which is over.

        Args:
            said: Whom it names.
            work: The unit of work of the context.
            span: The current one.
            trace_id: Its trace; 0 for none.
        """
        if work is not None and said == work.ambient.distinct_id:
            return False
        named = self._named.get(trace_id, _NOBODY)
        if said in named:
            return False
        person = person_id(said)
        if not person or person in named or (work is not None and work.knows(person)):
            return False
        if self.is_over(work, span, trace_id):
            root = self._roots.of(trace_id)
            return not (_says(span, person) or _says(root, person))
        if trace_id and len(named) < _NAMES:
            self._remember(trace_id, person)
        return False

    def _remember(self, trace_id: int, person: str) -> None:
        named = self._named
        if len(named) >= _KEPT:
            with suppress(KeyError, RuntimeError, StopIteration):  # another thread did so meanwhile
                del named[next(iter(named))]
        named.setdefault(trace_id, set()).add(person)


def _says(span: Any, person: str) -> bool:
    """Whether a span says of itself, or by what it inherited, that it is this person's."""
    attributes: Mapping[str, Any] = attributes_of(span) if span is not None else {}
    return any(person_id(attributes[key]) == person for key in STATED if key in attributes)


__all__ = ["Outliving"]
