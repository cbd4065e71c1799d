"""The questions: `enabled`, `variant`, `payload`, `config`, `all`, `experiments`, `details`; and `interaction`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

from otel_posthog.flags.answer import REASONS, Answer, FlagValue
from otel_posthog.flags.overriding import override_of, overrides
from otel_posthog.flags.process import client
from otel_posthog.flags.registry import check_name
from otel_posthog.flags.who import Who, who
from otel_posthog.semconv.posthog import FEATURE_PREFIX

if TYPE_CHECKING:
    from uuid import UUID

    from typing_extensions import Unpack

    from otel_posthog.flags.asking import Found
    from otel_posthog.lane.emitter import Emitter

D = TypeVar("D")


class About(TypedDict, total=False):
    """What is known beside the context, for targeting: keyword arguments of every question.

    Args:
        groups: Group type -> key, above those of the context.
        person_properties: Of the person, above the super properties of the context; PostHog adds what it knows.
        group_properties: Group type -> properties of that group.
    """

    groups: Mapping[str, Any] | None
    person_properties: Mapping[str, Any] | None
    group_properties: Mapping[str, Mapping[str, Any]] | None


def enabled(
    key: str,
    distinct_id: str | int | UUID | None = None,
    default: bool = False,
    **about: Unpack[About],
) -> bool:
    """Whether a flag is on for somebody; any variant is on. Never raises; waits `OTEL_POSTHOG_FLAGS_TIMEOUT` at most.

    Args:
        key: The flag.
        distinct_id: For whom; the person of the context by default, else its visitor.
        default: What counts where there is no answer (flags are off, PostHog cannot be asked, or knows no such flag).
            A flag that says no beats `default=True`.
        about: For targeting: `groups` (type -> key), `person_properties`, and `group_properties` (type -> properties).
            They stand above the groups and super properties of the context; PostHog adds what it knows itself.
    """
    answer = ask(key, distinct_id, **about)
    return default if answer.value is None else bool(answer.value)


def variant(
    key: str,
    distinct_id: str | int | UUID | None = None,
    default: D = None,
    **about: Unpack[About],
) -> str | bool | D:
    """Which variant of a flag somebody has: its key; of a flag without variants whether it is on. Never raises.

    Args:
        key: The flag.
        distinct_id: As for `enabled`.
        default: What counts where there is no answer. A flag that is off is one: `False`.
        about: As for `enabled`.
    """
    answer = ask(key, distinct_id, **about)
    return default if answer.value is None else answer.value


def payload(
    key: str,
    distinct_id: str | int | UUID | None = None,
    default: Any = None,
    **about: Unpack[About],
) -> Any:
    """What a flag brings along for somebody, from its JSON. Never raises; tells PostHog nothing, as its SDK.

    Args:
        key: The flag.
        distinct_id: As for `enabled`.
        default: What counts where there is no answer, or no payload.
        about: As for `enabled`.
    """
    answer = ask(key, distinct_id, counts=False, **about)
    return default if answer.payload is None else answer.payload


def config(
    key: str,
    distinct_id: str | int | UUID | None = None,
    default: Mapping[str, Any] | None = None,
    **about: Unpack[About],
) -> dict[str, Any]:
    """Remote configuration: a flag's payload as a mapping, always. Never raises.

    Args:
        key: The flag.
        distinct_id: As for `enabled`.
        default: What counts for the keys that the payload does not have; all of it where there is no answer.
        about: As for `enabled`.

    Returns:
        A new dict, safe to read from and to change.
    """
    found = payload(key, distinct_id, **about)
    given = _dict(default, "default")
    if isinstance(found, Mapping):
        given.update(cast("Mapping[str, Any]", found))
    elif found is not None:
        _misused(
            "flag_payload", "otel-posthog: the payload of the flag %r is no JSON object, so its default counts", key
        )
    return given


def all(  # noqa: A001 - read as `flags.all`
    distinct_id: str | int | UUID | None = None,
    **about: Unpack[About],
) -> dict[str, FlagValue]:
    """Every flag and its value for somebody, by one question; empty where there is no answer. Never raises.

    Nothing is counted and nothing is stamped: to list flags is not to be given one.

    Args:
        distinct_id: As for `enabled`.
        about: As for `enabled`.
    """
    return {**survey(distinct_id, **about)[1], **{key: answer.value for key, answer in _overridden().items()}}


def experiments(
    distinct_id: str | int | UUID | None = None,
    **about: Unpack[About],
) -> dict[str, str]:
    """The flags with variants, and the one that somebody has: `all` without those that are only on or off.

    Args:
        distinct_id: As for `enabled`.
        about: As for `enabled`.
    """
    return {key: value for key, value in all(distinct_id, **about).items() if isinstance(value, str)}


def details(
    key: str,
    distinct_id: str | int | UUID | None = None,
    **about: Unpack[About],
) -> Answer:
    """The whole answer: value, payload, who answered, and why. Counts like `enabled`; never raises.

    Args:
        key: The flag.
        distinct_id: As for `enabled`.
        about: As for `enabled`.
    """
    return ask(key, distinct_id, **about)


def interaction(
    key: str,
    action: str = "",
    properties: Mapping[str, Any] | None = None,
    *,
    distinct_id: str | int | UUID | None = None,
) -> str | None:
    """Somebody used what a flag brought: a `feature_interaction` event with `feature_flag` and `action`. Never raises.

    Args:
        key: The flag.
        action: What was done, e.g. `clicked_export_button`.
        properties: Further properties.
        distinct_id: Who; the person of the context by default.

    Returns:
        The event's uuid; `None` where nothing was captured.
    """
    from otel_posthog.api.capture import capture

    given = cast("object", key)
    if not isinstance(given, str) or not given.strip():
        _no_key(given)
        return None
    said = _dict(properties, "properties") | {"feature_flag": str.__str__(given)}
    if action:
        said["action"] = action
    return capture("feature_interaction", said, distinct_id=distinct_id)


def ask(
    key: str,
    distinct_id: object = None,
    *,
    counts: bool = True,
    **about: Unpack[About],
) -> Answer:
    """One question. Never raises.

    Args:
        key: The flag.
        distinct_id: For whom.
        counts: PostHog is told, and what follows is stamped.
        about: As for `enabled`.
    """
    name = check_name(key)
    if not name:
        _no_key(key)
        return _unanswered(Answer(name, reason="misuse"))
    if (forced := override_of(name)) is not None:
        client.count("answered", forced.source)
        return forced
    asked, found, emitter, why = _find(name, distinct_id, about)
    if asked is None or found is None or emitter is None:
        return _unanswered(Answer(name, reason=why))
    try:
        answer = found.answer(name, counts=counts)
        if answer.value is None:
            return _unanswered(answer)
        client.count("answered", answer.source)
        if counts and asked.here:
            _stamp(name, answer.value, emitter)
    except Exception as error:  # noqa: BLE001 - an edge: the app goes on
        emitter.edge.guard.failed("flags.answer", error)
        return _unanswered(Answer(name, reason="failed"))
    return answer


def survey(
    distinct_id: object = None,
    **about: Unpack[About],
) -> tuple[Who | None, dict[str, FlagValue], dict[str, Any]]:
    """(for whom, every flag's value, payloads), overrides left aside. Never raises."""
    asked, found, emitter, why = _find(None, distinct_id, about)
    if found is None or emitter is None:
        client.count("unanswered", why)
        return asked, {}, {}
    try:
        if found.failed:
            client.count("unanswered", found.failed)
        return asked, found.values(), found.payloads()
    except Exception as error:  # noqa: BLE001 - an edge: the app goes on
        emitter.edge.guard.failed("flags.survey", error)
        return asked, {}, {}


def _find(key: str | None, distinct_id: object, about: About) -> tuple[Who | None, Found | None, Emitter | None, str]:
    """(for whom, what was found, where to report, why nothing)."""
    emitter: Emitter | None = None
    try:
        asking, emitter, why = client.get()
        if emitter is None:
            return None, None, None, why
        asked = who(emitter, distinct_id, **about)
        if asking is None:
            return asked, None, emitter, why
        if not asked.distinct_id:
            if distinct_id is None:
                _misused(
                    "flag_nobody",
                    "otel-posthog: a flag was asked for nobody: no distinct id was given, and the context knows none",
                )
            return asked, None, emitter, "no_person"
        return asked, asking.find(asked, key), emitter, ""
    except Exception as error:  # noqa: BLE001 - an edge: the app goes on
        if emitter is None:
            from otel_posthog.api.process import process

            process.guard.failed("flags.ask", error)
        else:
            emitter.edge.guard.failed("flags.ask", error)
        return None, None, emitter, "failed"


def _stamp(key: str, value: FlagValue, emitter: Emitter) -> None:
    """What the unit of work at hand does from now on happens under this value; its spans say so, too."""
    from otel_posthog.api.marks import spans_of
    from otel_posthog.context.work import current_work

    work = current_work()
    if work.ambient.flags.get(key) is not value and work.ambient.flags.get(key) != value:
        work.change(flags={key: value})
        for span in spans_of(work, emitter)[1]:
            span.set_attribute(FEATURE_PREFIX + key, value)


def _overridden() -> dict[str, Any]:
    return {key: answer for key, answer in overrides().items() if answer.value is not None}


def _unanswered(answer: Answer) -> Answer:
    assert answer.reason in REASONS
    client.count("unanswered", answer.reason)
    return answer


def _dict(value: object, what: str) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    if value is not None:
        _misused(what, "otel-posthog: %s of a call about a flag is a %s, and not a mapping", what, type(value))
    return {}


def _no_key(key: object) -> None:
    shown = repr(key[:200]) if isinstance(key, str) else type(key).__name__
    _misused("flag_key", "otel-posthog: %s is no key of a flag", shown)


def _misused(what: str, message: str, *args: object) -> None:
    from otel_posthog.api.process import process

    process.guard.misused(what, message, *args)
