"""What goes along with an outgoing call: what holds for the work at hand, to our own services, and to nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, cast
from urllib.parse import unquote_plus

from opentelemetry import context
from opentelemetry.trace import SpanKind

from otel_posthog.config.settings import IdentityConfig
from otel_posthog.context.ambient import NOTHING, Ambient
from otel_posthog.context.baggage import MAX_BYTES, encode, weight_of
from otel_posthog.context.destination import OwnHosts, destination_of, is_message, service_of
from otel_posthog.context.properties import properties_in
from otel_posthog.context.signature import MEMBER, sign
from otel_posthog.context.unrecorded import OUTGOING, outgoing
from otel_posthog.context.work import apart, work_in
from otel_posthog.lane.edge import Edge
from otel_posthog.lane.internals import attributes_of, baggage_in, baggage_key, span_in, span_key
from otel_posthog.semconv import otel, posthog

_W3C_BYTES: Final = 8_192
_W3C_MEMBERS: Final = 180
_OURS: Final = 7
"""Members of ours at the most, with the signature."""
_SIGNATURE_BYTES: Final = 90
_IDENTITY: Final = frozenset(
    {
        posthog.POSTHOG_DISTINCT_ID,
        posthog.POSTHOG_SESSION_ID,
        otel.USER_ID,
        otel.ENDUSER_ID,
        otel.ENDUSER_PSEUDO_ID,
        otel.SESSION_ID,
        "user.email",
        "user.name",
        "user.full_name",
        "user.hash",
        "user.roles",
    }
)
"""Members by which services name people, beside all that begin with `posthog.`."""
_NONE: Final[Mapping[str, Any]] = {}


class Departing:
    """Makes the context whose baggage a call takes along. Safe in any thread.

    Args:
        edge: Knows local roots and what is believed.
        config: Which hosts are our own, and what may travel.
        now: Seconds since the Unix epoch; injected by tests.
    """

    def __init__(self, edge: Edge, config: IdentityConfig, *, now: Callable[[], float] = time.time) -> None:
        self._edge = edge
        self._hosts = OwnHosts(config.baggage_hosts)
        self._properties = config.baggage_properties
        self._secret = config.baggage_secrets[0] if config.baggage_secrets else None
        self._identity = _IDENTITY | set(config.baggage_keys)
        self._now = now
        self._span_key = span_key()
        self._baggage_key = baggage_key()

    def context(self, ctx: Any, targets: tuple[str, ...] = ()) -> Any:
        """`ctx` with the baggage that may travel to where the call in it goes.

        Args:
            ctx: The OpenTelemetry context that is about to be injected.
            targets: `host:port` of all places that it may go to, where somebody knows better than the span.
        """
        if not self._baggage_key:
            return ctx
        baggage = baggage_in(ctx, self._baggage_key)
        span = span_in(ctx, self._span_key)
        if not self._is_ours(span, targets):
            if not any(self._names_people(name) for name in baggage):
                return ctx
            return self._with(ctx, {name: value for name, value in baggage.items() if not self._names_people(name)})
        others = {name: value for name, value in baggage.items() if not _is_posthog(name)}
        members = self._members(ctx, span, baggage, others)
        if not members and len(others) == len(baggage):
            return ctx
        return self._with(ctx, {**others, **members})

    def leaving(self, header: str, value: str, destination: str) -> str:
        """A header that carries baggage, as it may leave for a host: without members that name people elsewhere.

        Args:
            header: Its name, lower case: `baggage`, or `otel.BAGGAGE_MEMBERS` and a member.
            value: Its value, of whichever origin.
            destination: `host:port`; "" for a place that nobody knows.

        Returns:
            The value to send; "" for none.
        """
        if self._hosts.everywhere or destination in self._hosts:
            return value
        for one in otel.BAGGAGE_MEMBERS:
            if header.startswith(one):
                return "" if self._names_people(header[len(one) :]) else value
        return ",".join(one for one in value.split(",") if not self._names_people(_name_of(one))).strip()

    def without_ours(self, value: str) -> str:
        """The members of a `baggage` header that are not ours.

        Args:
            value: Of the header.
        """
        return ",".join(one for one in value.split(",") if not _is_posthog(_name_of(one))).strip()

    def _with(self, ctx: Any, baggage: Mapping[str, Any]) -> Any:
        # A plain dict: the API takes nothing else for a baggage.
        return context.set_value(self._baggage_key, dict(baggage), ctx)

    def _names_people(self, name: Any) -> bool:
        return _is_posthog(name) or name in self._identity

    def _is_ours(self, span: Any, targets: tuple[str, ...]) -> bool:
        if self._hosts.everywhere:
            return True
        if span is None:
            return False  # where it goes, nobody knows
        kind, attributes = getattr(span, "kind", None), attributes_of(span)
        if kind is None:
            kind, attributes = outgoing(span)
        if kind not in OUTGOING or attributes is None:
            return False
        is_call = kind is SpanKind.CLIENT
        destination = destination_of(attributes)
        if destination:
            targets = (*targets, destination)
        elif is_call and (service := service_of(attributes)):
            if self._hosts.lists(service):
                return True
            if self._hosts.bars(service):
                return False
        if targets:
            return all(one in self._hosts for one in targets)
        # A broker that is not named is the one of the app's own tasks.
        return not is_call and is_message(attributes)

    def _members(self, ctx: Any, span: Any, baggage: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, str]:
        if len(others) + _OURS > _W3C_MEMBERS:
            return {}
        ambient = self._ambient(ctx, span, baggage)
        properties = {**ambient.properties, **properties_in(ctx)}
        chosen = {name: properties[name] for name in self._properties if name in properties}
        room = _W3C_BYTES - weight_of(others)
        if self._secret is None:
            return encode(ambient, chosen, room=room)
        members = encode(ambient, chosen, room=min(room, MAX_BYTES) - _SIGNATURE_BYTES)
        if members:
            members[MEMBER] = sign(members, self._secret, self._now())
        return members

    def _ambient(self, ctx: Any, span: Any, baggage: Mapping[str, Any]) -> Ambient:
        """What holds where the call is made, with person and session of whichever source is the first to have them."""
        trace_id = span.get_span_context().trace_id if span is not None else 0
        work = work_in(ctx, trace_id)
        ambient = work.ambient if work is not None else self._edge.arriving.ambient(baggage) if baggage else NOTHING
        if ambient.nobody or (ambient.distinct_id and ambient.session_id) or (work and apart(work, trace_id)):
            return ambient
        above = _NONE if span is None else attributes_of(span)
        found = self._edge.stamper.missing({}, above, baggage)
        root = self._edge.roots.of(trace_id) if trace_id else None
        if root is not None and len(found) < 2:
            # What was learnt after the spans between had started.
            found = {**self._edge.stamper.missing({}, attributes_of(root), None), **found}
        person = ambient.distinct_id or cast("str", found.get(posthog.POSTHOG_DISTINCT_ID, ""))
        session = ambient.session_id or cast("str", found.get(posthog.POSTHOG_SESSION_ID, ""))
        below = _NONE if root is None else attributes_of(root)
        anonymous = ambient.anonymous_id or _pseudonym(above) or _pseudonym(below)
        if ambient.claimed:
            # Named there as it is here, and, since we vouch for it, not as one that may become somebody's.
            person, anonymous = person or ambient.anonymous_id, ""
        return replace(ambient, distinct_id=str(person), session_id=str(session), anonymous_id=anonymous)  # pyright: ignore[reportArgumentType] - a dataclass


def _pseudonym(attributes: Mapping[str, Any]) -> str:
    said = attributes.get(otel.ENDUSER_PSEUDO_ID)
    return said if isinstance(said, str) else ""


def _name_of(member: str) -> str:
    """The name of one member of a header, as the propagator of the other side will read it."""
    return unquote_plus(member.partition("=")[0].strip()).strip()


def _is_posthog(name: Any) -> bool:
    return isinstance(name, str) and name.startswith(posthog.PREFIX)


__all__ = ["Departing"]
