"""Who it is: `identify`, `set_person`, `unset_person`, `alias`, `reset`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from otel_posthog.api.capture import add, bad_id
from otel_posthog.api.marks import mark
from otel_posthog.api.process import process
from otel_posthog.api.values import id_value, plain
from otel_posthog.lane.now import now_ns
from otel_posthog.lane.uuids import uuid7
from otel_posthog.semconv import posthog

if TYPE_CHECKING:
    from otel_posthog.lane.emitter import Emitter

_Id = str | int | UUID


def identify(
    distinct_id: _Id,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - PostHog's word
    set_once: Mapping[str, Any] | None = None,
) -> str | None:
    """Says who the work at hand is for: this request, job or script. Never raises, blocks or does I/O.

    From now on every event of it is this person's, in other threads and tasks of it too; so is what has been captured
    in it before without a person, and the request's span. Where the visitor had an anonymous id, the two become one
    person, once (`$identify` with `$anon_distinct_id`).

    Calling it in every request is right, and free: without properties and without an anonymous id to merge, no event
    is sent.

    Args:
        distinct_id: Who: text or a number that is this person's alone.
        set: Person properties to set. `{"$set": {…}, "$set_once": {…}}`, as older versions of PostHog's SDK took it,
            is understood, too.
        set_once: Person properties to set where the person does not have them yet.

    Returns:
        The uuid of the update's event; `None` where there is nothing to send, or the gate is shut.
    """
    emitter = process.get()
    if emitter is None:
        return process.off("identify") if process.started else None
    try:
        from otel_posthog.context import Ambient, current_work, set_apart
        from otel_posthog.convert.person import person_id

        person = person_id(id_value(distinct_id))
        if not person:
            return bad_id(distinct_id, emitter)
        if emitter.outlives(person):
            # A thread has the context of the request that started it for good, and serves others later. What else of
            # that request is still at work remains its person's; and nothing undoes a merge with its visitor.
            work, merged = set_apart(Ambient(distinct_id=person)), ""
            _misused_scope(emitter)
        else:
            work = current_work()
            before = work.ambient
            apart = before.claimed or before.anonymous_id == person or work.has_ended or work.left is not None
            merged = "" if apart else before.anonymous_id
            if before.distinct_id not in ("", person) and not work.managed and not work.trace_id:
                # A server or a loop whose requests nobody told apart: at the least, nothing else of the one before.
                _misused_scope(emitter)
                work.reset(Ambient(distinct_id=person))
            else:
                # The anonymous id goes with the merge: the next call, or the next login, has nothing to merge with it.
                work.change(distinct_id=person, anonymous_id="", claimed=False, nobody=False)
        trace_id = mark({posthog.DISTINCT_ID: person, posthog.POSTHOG_DISTINCT_ID: person}, work, emitter)
        attributes: dict[str, Any] = {posthog.DISTINCT_ID: person}
        add_person(attributes, set, set_once, emitter)
        if merged:
            attributes[posthog.ANON_DISTINCT_ID] = merged
        if len(attributes) > 1:
            return update(attributes, emitter, "identify")
        emitter.witness(person, trace_id)
    except Exception as error:  # noqa: BLE001 - an edge: the app goes on
        emitter.edge.guard.failed("api.identify", error)
    return None


def set_person(
    set: Mapping[str, Any] | None = None,  # noqa: A002 - PostHog's word
    set_once: Mapping[str, Any] | None = None,
    *,
    distinct_id: _Id | None = None,
) -> str | None:
    """Sets properties of a person. Never raises, blocks or does I/O.

    Args:
        set: Properties to set. `{"$set": {…}, "$set_once": {…}}` is understood, too.
        set_once: Properties to set where the person does not have them yet.
        distinct_id: Whose; that of the work at hand by default. Where nobody is known until the end of the request,
            there is no person, and the update is dropped (and counted).

    Returns:
        The uuid of the update's event; `None` where there is nothing to set, or the gate is shut.
    """
    emitter = process.get()
    if emitter is None:
        return process.off("set_person") if process.started else None
    try:
        attributes: dict[str, Any] = {}
        add_person(attributes, set, set_once, emitter)
        return _update_of(distinct_id, attributes, emitter, "set_person")
    except Exception as error:  # noqa: BLE001 - an edge: the app goes on
        emitter.edge.guard.failed("api.set_person", error)
        return None


def unset_person(*names: str, distinct_id: _Id | None = None) -> str | None:
    """Removes properties of a person. Never raises, blocks or does I/O.

    Args:
        names: Of the properties.
        distinct_id: Whose; that of the work at hand by default.

    Returns:
        The uuid of the update's event; `None` where there is nothing to remove, or the gate is shut.
    """
    emitter = process.get()
    if emitter is None:
        return process.off("unset_person") if process.started else None
    try:
        wanted: list[str] = []
        for name in names:
            # A list of names in place of names is the commonest slip, and says the same.
            several = cast("list[Any]", [*name]) if isinstance(name, (list, tuple, frozenset)) else [name]
            for one in several:
                if isinstance(one, str) and one:
                    wanted.append(str.__str__(one))
                else:
                    emitter.edge.guard.misused(
                        "unset", "otel-posthog: unset_person() takes names, not %s", type(one).__name__
                    )
        return _update_of(distinct_id, {posthog.UNSET: wanted} if wanted else {}, emitter, "unset_person")
    except Exception as error:  # noqa: BLE001 - an edge: the app goes on
        emitter.edge.guard.failed("api.unset_person", error)
        return None


def alias(alias: _Id, *, distinct_id: _Id | None = None) -> str | None:
    """Says that a person has another id, too (`$create_alias`). Never raises, blocks or does I/O.

    Args:
        alias: The other id; one that has not been a person of its own with a name, such as a device's or a lead's.
        distinct_id: Whose it is; the person of the work at hand by default.

    Returns:
        The event's uuid; `None` where the gate is shut, or the other id is none.
    """
    emitter = process.get()
    if emitter is None:
        return process.off("alias") if process.started else None
    try:
        from otel_posthog.convert.person import person_id

        other = person_id(id_value(alias))
        if not other:
            return bad_id(alias, emitter)
        return _update_of(distinct_id, {posthog.ALIAS: other}, emitter, "alias")
    except Exception as error:  # noqa: BLE001 - an edge: the app goes on
        emitter.edge.guard.failed("api.alias", error)
        return None


def reset() -> None:
    """Forgets who the work at hand is for, as at a logout. Never raises, blocks or does I/O.

    Person, groups, session and flags end here. What follows in the same request belongs to one new anonymous visitor,
    and is personless until somebody is identified. Spans that have been marked keep their marks: they tell who it was.
    """
    emitter = process.get()
    if emitter is None:
        return process.off("reset") if process.started else None
    try:
        from otel_posthog.context import NOTHING, current_work, set_apart

        (set_apart(NOTHING) if emitter.outlives() else current_work()).reset()
    except Exception as error:  # noqa: BLE001 - an edge: the app goes on
        emitter.edge.guard.failed("api.reset", error)


def add_person(attributes: dict[str, Any], values: Any, once: Any, emitter: Emitter) -> None:
    """Adds person properties; those in the wrapper of PostHog's older SDKs are unwrapped."""
    if isinstance(values, Mapping) and ("$set" in values or "$set_once" in values):
        wrapped = cast("Mapping[str, Any]", values)
        rest = {name: value for name, value in wrapped.items() if name not in ("$set", "$set_once")}
        inner = plain(wrapped.get("$set"), emitter.edge.guard, "set") or {}
        values = {**inner, **rest}
        first = plain(wrapped.get("$set_once"), emitter.edge.guard, "set_once")
        once = {**(first or {}), **(plain(once, emitter.edge.guard, "set_once") or {})}
    if values is not None:
        add(attributes, posthog.SET, values, emitter, "set")
    if once is not None:
        add(attributes, posthog.SET_ONCE, once, emitter, "set_once")


def _misused_scope(emitter: Emitter) -> None:
    emitter.edge.guard.misused(
        "scope",
        "otel-posthog: identify() was called for one person after another outside of any request, job or scope, or in "
        "a thread that outlives its request, so each holds until the next: put `with otel_posthog.scope():` around "
        "each piece of work",
    )


def _update_of(distinct_id: Any, attributes: dict[str, Any], emitter: Emitter, call: str) -> str | None:
    if not attributes:
        return None
    if distinct_id is not None:
        from otel_posthog.convert.person import person_id

        person = person_id(id_value(distinct_id))
        if not person:
            return bad_id(distinct_id, emitter)  # not that of the person at hand: nobody knows whose it is
        attributes[posthog.DISTINCT_ID] = person
    return update(attributes, emitter, call)


def update(attributes: dict[str, Any], emitter: Emitter, call: str) -> str | None:
    """Hands over a record that only updates.

    Args:
        attributes: What is to be updated, and whose; ours from now on.
        emitter: Where to.
        call: Whose it is, for the complaint.

    Returns:
        Its uuid; `None` where there was no room.
    """
    moment = now_ns()
    uuid = uuid7(moment)
    attributes[posthog.UUID] = uuid
    return uuid if emitter.emit("", attributes, time_ns=moment) else process.refused(call, emitter)
