"""The two looks that every span of the app pays for, at its start and at its end.

Written for CPython's cost model, since the budget is a third of a microsecond for both: closures, because a cell is
cheaper than an attribute of `self`; the dicts behind the SDK's attribute maps, because a missing key of the map itself
costs a raised KeyError; set operations that walk the keys in C; and what is rarely needed asked last. Each only finds
out that nothing is to be done. Whatever is unusual (another SDK's span, a missing attribute, any exception) takes the
careful way, which looks again, and where failures are caught and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from opentelemetry.trace import SpanKind

from otel_posthog.lane.identity import LINKING
from otel_posthog.sdk.candidates import Candidates
from otel_posthog.semconv import posthog

OnStart = Callable[..., None]


class OnEnd(Protocol):
    """A callback for a span that ended."""

    def __call__(self, span: Any) -> None:
        """Looks at `span`."""
        ...


_CONSUMER: Final = SpanKind.CONSUMER
_EVENT: Final = posthog.EVENT
_AT_START: Final = LINKING | {posthog.ON}
"""Keys of a span, or of its parent, for which there is something to do at its start."""


def quick_start(
    careful: Callable[[Any, Any], None],
    *,
    current: Callable[[], Mapping[str, Any]],
    span_key: str,
    baggage_key: str,
    any_rules: bool,
) -> OnStart:
    """The look at a span that starts.

    Args:
        careful: Does what is to be done.
        current: The current context.
        span_key: Key of the span in a context.
        baggage_key: Key of the baggage in a context.
        any_rules: Some rule fires at the start of spans: every span takes the careful way.
    """
    if any_rules or not span_key or not baggage_key:

        def each_start(span: Any, parent_context: Any = None) -> None:
            careful(span, parent_context)

        return each_start
    nothing_in = _AT_START.isdisjoint

    def on_start(span: Any, parent_context: Any = None) -> None:
        try:
            context = current() if parent_context is None else parent_context
            # A local root has no parent with attributes, and so takes the careful way. Most contexts hold their span
            # and nothing else: to count is quicker than to look for the baggage.
            if (
                nothing_in(span._attributes._dict)
                and nothing_in(context[span_key]._attributes._dict)
                and (len(context) == 1 or baggage_key not in context)
            ):
                return
        except Exception:  # noqa: BLE001 - the careful way looks again, and reports
            pass
        careful(span, parent_context)

    return on_start


def quick_end(
    careful: OnEnd,
    tagged: OnEnd,
    *,
    quiet: set[str],
    candidates: Candidates,
    open_traces: set[int],
    roots: dict[int, int],
    begun: dict[int, None],
) -> OnEnd:
    """The look at a span that ended.

    Args:
        careful: Does what is to be done.
        tagged: The same, for a span that names an event, and of which there is nothing else to know.
        quiet: Keys that concern nobody; grows.
        candidates: Spans that a rule may match.
        open_traces: Traces that something waits for; the same object for good.
        roots: Local roots of traces from outside that are at work; the same object for good.
        begun: Spans that were handed over at their start; the same object for good.
    """
    all_quiet = quiet.issuperset
    admit = candidates.admit if candidates else None

    def on_end(span: Any) -> None:
        try:
            attributes = span._attributes._dict
            if all_quiet(attributes):
                if not (span._events._dq or admit or open_traces or roots):
                    return
                if (
                    not span._events._dq
                    and (admit is None or not admit(span))
                    and not ((open_traces or roots) and (span._parent is None or span._parent.is_remote))
                ):
                    return
            elif _EVENT in attributes and not (span._events._dq or roots or begun or span._kind is _CONSUMER):
                tagged(span)
                return
        except Exception:  # noqa: BLE001 - the careful way looks again, and reports
            pass
        careful(span)

    return on_end
