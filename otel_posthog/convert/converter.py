"""`Converter.convert`: Signal -> Decision, pure: no clock, no I/O, no randomness, no SDK.

The steps, in order:

1. a finished event of the log carrier is rebuilt as it is (`carrier`);
2. what is ignored, what the emitting process delivers itself, AI spans and what nobody asked for is dropped, each with
   its reason;
3. whom it belongs to, session, groups (`identity`, `item`);
4. properties: deployment, request, resource, rule, the item's own (`deployment`, `request_context`, `values`);
5. the events: those that are named, the exception, the flag call, person and group updates (`exception`, `flags`,
   `updates`);
6. size (`limits`) and uuid (`ids`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, cast

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert.carrier import bridge_mark, final_event, is_final
from otel_posthog.convert.control_flow import is_no_error
from otel_posthog.convert.exception import ExceptionReader, exception_content, is_exception
from otel_posthog.convert.flags import flag_key, flag_properties, is_flag_evaluation, is_posthogs_own
from otel_posthog.convert.frames import Ownership
from otel_posthog.convert.identity import strong_id
from otel_posthog.convert.ids import canonical, hashed_uuid
from otel_posthog.convert.item import Item, ResourceContexts, milliseconds, owner_tags
from otel_posthog.convert.layout import Layout, Layouts
from otel_posthog.convert.limits import fit, flat_weight, list_cuts, surely_fits
from otel_posthog.convert.plain import PlainEvents
from otel_posthog.convert.tags import Tags, promoted, read_tags
from otel_posthog.convert.text import clean_text, cut_bytes
from otel_posthog.convert.untrusted import without_headers
from otel_posthog.convert.updates import Updates, group_subject, read_updates
from otel_posthog.convert.user_agent import UserAgents
from otel_posthog.convert.values import Cleaner
from otel_posthog.model import AttributeValue, CaptureEvent, Decision, DropReason, JsonValue, Notice, Signal, SignalKind
from otel_posthog.rules import Match, RuleSet
from otel_posthog.semconv import otel, posthog


class Converter:
    """Turns one signal into its capture events. Safe in any thread.

    Args:
        config: What may be read and how much may be written.
        rules: Rules for untagged signals.
    """

    def __init__(self, config: ConvertConfig, rules: RuleSet) -> None:
        self._config = config
        self._rules = rules
        self._has_rules = bool(rules)
        self._distrusts = not config.trust_headers
        self._layouts = Layouts()
        self._resources = ResourceContexts(config)
        self._user_agents = UserAgents()
        plain = PlainEvents(config, self._user_agents)
        self._has_plain, self._plain_event, self._plain_person = bool(plain), plain.event, plain.person
        self._exceptions = ExceptionReader(Ownership(config.in_app_include, config.in_app_exclude))

    def convert(self, signal: Signal) -> Decision:
        """The events of `signal`, or the reason why there are none.

        Returns:
            Events that are always valid to send: legal ids, valid JSON values, sizes within PostHog's limits.
        """
        if self._distrusts:
            signal = without_headers(signal)
        layout = self._layouts.of(signal.attributes)
        if layout.plain and signal.kind is not _SPAN_EVENT and self._has_plain:
            owner = signal.span
            around = self._layouts.of(owner.attributes) if owner is not None else None
            # Whom the request names comes before whom its trace turned out to be about.
            if around is None or (around.lends and (layout.who or not around.names)):
                resource = self._resources.get(signal.resource)
                event = self._plain_event(signal, layout, around, resource) if resource.plain else None
                if event is not None:
                    return Decision((event,))
        return self.convert_carefully(signal, layout)

    def convert_carefully(self, signal: Signal, layout: Layout) -> Decision:
        """As `convert`, which gives the same sooner where the item is a plain one.

        Args:
            signal: Any.
            layout: Of its attributes.
        """
        tags = read_tags(signal.attributes, layout)
        cleaner = Cleaner(self._config.max_value_bytes)
        if is_final(signal, tags):
            exact = Cleaner(self._config.max_value_bytes, exact=True)
            event = final_event(signal, tags, exact)
            if event is not None:
                return self._finish([event], "", exact, DropReason.TOO_BIG)
        tags = promoted(tags)
        owner = owner_tags(signal, self._layouts)
        resource = self._resources.get(signal.resource)
        if _ignored(tags, owner, resource.tags):
            return Decision(reason=DropReason.IGNORED)
        failed = self._config.exceptions and is_exception(signal)
        calm = failed and is_no_error(signal)
        failed = failed and not calm
        reported = is_flag_evaluation(signal)
        flag, unwanted = self._flag(signal) if reported else ("", None)
        mark = bridge_mark(tags.carrier, owner.carrier, resource.tags.carrier) if self._config.honour_carrier else None
        if mark is not None and (tags.acts or failed or flag):
            return Decision(reason=DropReason.CARRIED_BY_LOG)
        match: Match | None = None
        if not tags.has_event:
            if _is_ai(signal, layout):
                if not (tags.updates or failed or flag):
                    return Decision(reason=DropReason.AI_SPAN)
            elif self._has_rules:
                match = self._rules.match(signal)
            if match is None:
                if not (tags.updates or failed or flag):
                    calmly = DropReason.CONTROL_FLOW if calm else DropReason.NOT_TAGGED
                    return Decision(reason=unwanted or calmly)
            elif match.drop:
                return Decision(reason=DropReason.RULE, rule=match.rule)
            elif mark is not None and mark and mark == self._rules.digest:
                return Decision(reason=DropReason.CARRIED_BY_LOG, rule=match.rule)
        return self._build(Item(signal, layout, tags, owner, resource, match, cleaner), failed, flag)

    def _flag(self, signal: Signal) -> tuple[str, DropReason | None]:
        """Key of the flag whose evaluation `signal` reports; else "", and why it makes no event."""
        wanted = self._config.flag_events
        if wanted == "off":
            return "", None
        if wanted != "all" and is_posthogs_own(signal.attributes):
            return "", DropReason.REPORTED_BY_POSTHOG
        return flag_key(signal), DropReason.INVALID

    def identify(self, signal: Signal) -> str:
        """Who `signal` itself says it belongs to, its rule included; "" where it does not say.

        Never a fallback, a resource's default or late identity: the caller asks whether waiting for one is worth it.
        """
        if self._distrusts:
            signal = without_headers(signal)
        attributes = signal.attributes
        said = attributes.get(posthog.DISTINCT_ID)
        if said is not None and (found := self._plain_person(said)):
            return found
        rule = ""
        if (
            said is None
            and self._has_rules
            and posthog.EVENT not in attributes
            and not _is_ai(signal, self._layouts.of(attributes))
        ):
            match = self._rules.match(signal)
            rule = match.distinct_id if match is not None else ""
        found = strong_id(attributes, said, rule)
        if not found and signal.span is not None:
            attributes = signal.span.attributes
            found = strong_id(attributes, attributes.get(posthog.DISTINCT_ID))
        return found

    def _build(self, item: Item, failed: bool, flag: str) -> Decision:
        tags, match = item.tags, item.match
        updates = read_updates(item)
        names = _names(tags.event if tags.has_event else match.event if match is not None else "", item.cleaner)
        if posthog.EVENT_EXCEPTION in names:
            # Whoever names the event so means an exception; PostHog wants its shape.
            names.remove(posthog.EVENT_EXCEPTION)
            failed = True
        if posthog.EVENT_GROUP_IDENTIFY in names and updates.groups:
            names.remove(posthog.EVENT_GROUP_IDENTIFY)
        if flag and posthog.EVENT_FLAG_CALLED in names:
            names.remove(posthog.EVENT_FLAG_CALLED)
        start = (tags.on if tags.has_event else match.on if match is not None else None) == "start"
        events = self._named(item, names, updates, start=start)
        if failed:
            events.append(self._exception(item, only=not names))
        if flag:
            events.append(self._flag_call(item, flag, only=not events))
        if updates.any:
            events += self._updates(item, updates, events, named=bool(names))
        reason = DropReason.EMPTY_NAME if tags.has_event else DropReason.NOT_TAGGED
        if match is not None:
            reason = DropReason.IDENTITY_ONLY
        if updates.own:
            reason = DropReason.NO_SUBJECT
        return self._finish(events, match.rule if match is not None else "", item.cleaner, reason)

    def _named(self, item: Item, names: list[str], updates: Updates, *, start: bool) -> list[CaptureEvent]:
        """The events that the tag or the rule names; the first one takes the person updates along."""
        events: list[CaptureEvent] = []
        if not names:
            return events
        signal, match = item.signal, item.match
        base = item.properties(self._config, self._user_agents)
        starts = start and signal.kind is SignalKind.SPAN
        time_ns = item.time_ns(start=start)
        if signal.kind is SignalKind.SPAN and not starts and 0 < signal.start_time_ns < signal.time_ns:
            base.setdefault("duration_ms", milliseconds(signal.time_ns - signal.start_time_ns))
        for index, name in enumerate(names):
            properties = dict(base) if index else base
            if not index:
                self._attach_person(item, updates, properties)
            if name == posthog.EVENT_IDENTIFY and updates.anon_distinct_id:
                properties["$anon_distinct_id"] = updates.anon_distinct_id
                updates.anon_distinct_id = ""
            elif name == posthog.EVENT_CREATE_ALIAS and updates.alias:
                properties.update(distinct_id=item.subject.distinct_id, alias=updates.alias)
                updates.alias = ""
            self._mark_person(item, properties)
            if item.uuid:
                uuid = hashed_uuid(item.uuid, name) if index else item.uuid
            else:
                uuid = hashed_uuid(*item.key, match.rule if match is not None else name)
            events.append(CaptureEvent(name, item.subject.distinct_id, uuid, time_ns, properties))
        return events

    def _exception(self, item: Item, *, only: bool) -> CaptureEvent:
        """The one `$exception` of an item."""
        signal = item.signal
        content = exception_content(signal, self._exceptions, item.cleaner)
        others = item.properties(self._config, self._user_agents)
        properties = {**content.properties, **others}
        self._mark_person(item, properties)
        local = signal.local
        if item.uuid and only:
            uuid = item.uuid
        elif local is not None and local.exception_id:
            uuid = hashed_uuid("exception", local.exception_id)
        elif signal.trace_id and content.place:
            uuid = hashed_uuid("exception", signal.trace_id, content.type, content.place)
        else:
            # Log records carry time and body in their key: without a stack, two of them are two.
            uuid = hashed_uuid("exception", *item.key, content.type)
        person = item.subject.distinct_id
        weight = _ENVELOPE + len(person) + content.weight + flat_weight(others)
        return CaptureEvent(posthog.EVENT_EXCEPTION, person, uuid, item.time_ns(), properties, weight)

    def _flag_call(self, item: Item, flag: str, *, only: bool) -> CaptureEvent:
        """The `$feature_flag_called` of an item."""
        properties = flag_properties(item.signal, item.cleaner)
        properties.update(item.properties(self._config, self._user_agents))
        self._mark_person(item, properties)
        if item.uuid:
            uuid = item.uuid if only else hashed_uuid(item.uuid, posthog.EVENT_FLAG_CALLED)
        else:
            # With the key, although it is an attribute: evaluations of one moment differ in nothing else.
            uuid = hashed_uuid("flag", *item.key, flag)
        return CaptureEvent(posthog.EVENT_FLAG_CALLED, item.subject.distinct_id, uuid, item.time_ns(), properties)

    def _updates(self, item: Item, updates: Updates, events: list[CaptureEvent], *, named: bool) -> list[CaptureEvent]:
        """`$identify`, `$create_alias`, `$set` and `$groupidentify`, where they need events of their own."""
        made: list[CaptureEvent] = []
        wants_person = bool(updates.alias or updates.anon_distinct_id or (updates.person and updates.own and not named))
        if wants_person and not _may_update(item):
            item.cleaner.note(Notice.NO_SUBJECT)
            wants_person = False
        subject = item.subject.distinct_id
        if wants_person:
            left = dict(updates.person) if updates.own and not named else {}
            if updates.anon_distinct_id:
                made.append(
                    self._update(
                        item, posthog.EVENT_IDENTIFY, subject, {"$anon_distinct_id": updates.anon_distinct_id, **left}
                    )
                )
                left = {}
            if updates.alias:
                shape = {"distinct_id": subject, "alias": updates.alias}
                made.append(self._update(item, posthog.EVENT_CREATE_ALIAS, subject, shape))
            if left:
                made.append(self._update(item, posthog.EVENT_SET, subject, left))
        for group_type, key, properties, shared in updates.groups:
            if shared and not events and not made:
                continue
            # What the resource says is the same for every item: one subject and one uuid, whoever asks, so that
            # PostHog keeps one of them a day.
            someone = "" if shared or item.subject.personless else subject
            shape = {"$group_type": group_type, "$group_key": key, "$group_set": properties}
            someone = someone or group_subject(group_type, key)
            uuid = hashed_uuid("group", group_type, key, canonical(properties)) if shared else ""
            made.append(self._update(item, posthog.EVENT_GROUP_IDENTIFY, someone, shape, part=group_type, uuid=uuid))
        return made

    def _update(
        self, item: Item, name: str, distinct_id: str, shape: dict[str, JsonValue], *, part: str = "", uuid: str = ""
    ) -> CaptureEvent:
        if not uuid and item.uuid:
            uuid = hashed_uuid(item.uuid, name, part)
        elif not uuid:
            uuid = hashed_uuid(*item.key, item.match.rule if item.match is not None else "", name, part)
        return CaptureEvent(name, distinct_id, uuid, item.time_ns(), {**item.common(), **shape})

    def _attach_person(self, item: Item, updates: Updates, properties: dict[str, JsonValue]) -> None:
        if not updates.person:
            return
        if _may_update(item) and (updates.own or item.person_profile is not False):
            properties.update(updates.person)
        elif updates.own:
            item.cleaner.note(Notice.NO_SUBJECT)

    def _mark_person(self, item: Item, properties: dict[str, JsonValue]) -> None:
        # An update of the person overrules a default that says personless: it was let through on purpose.
        if item.subject.personless or (item.person_profile is False and _NEEDS_PERSON.isdisjoint(properties)):
            properties[posthog.PERSON_PROFILE_PROPERTY] = False

    def _finish(self, events: list[CaptureEvent], rule: str, cleaner: Cleaner, empty: DropReason) -> Decision:
        """Sizes and notices; a decision with `empty` as its reason where there is no event."""
        limit = min(self._config.max_event_bytes, posthog.MAX_EVENT_BYTES)
        kept: list[CaptureEvent] = []
        for event in events:
            properties = event.properties
            assert isinstance(properties, dict)  # made by us a moment ago, and still nobody else's
            if cleaner.cut:
                list_cuts(properties, cleaner.cut)
            if surely_fits(cleaner, limit):
                kept.append(event)
            elif fit(properties, limit, cleaner):
                # What was cut is lighter than its maker thought.
                kept.append(event if not event.weight else replace(event, weight=0))
            else:
                empty = DropReason.TOO_BIG
        notices = tuple(cleaner.notices)
        if not kept:
            return Decision(reason=empty, rule=rule, notices=notices)
        return Decision(events=tuple(kept), rule=rule, notices=notices)


def _ignored(tags: Tags, owner: Tags, resource: Tags) -> bool:
    # The nearest that says anything decides: an item may opt in again under a resource that opts out.
    for carrier in (tags, owner, resource):
        if carrier.ignore is not None:
            return carrier.ignore
    return False


def _is_ai(signal: Signal, layout: Layout) -> bool:
    return layout.ai or signal.name.startswith(otel.GEN_AI_PREFIXES)


def _names(value: AttributeValue, cleaner: Cleaner) -> list[str]:
    """The legal event names in `value`, each once."""
    if type(value) is str and value.isascii() and len(value) <= posthog.MAX_NAME_BYTES and "\x00" not in value:
        return [name] if (name := value.strip()) else []
    names: dict[str, None] = {}
    raws = cast("Sequence[object]", value) if isinstance(value, (list, tuple)) else (value,)
    for raw in raws:
        if not isinstance(raw, str):
            if raw is not None:
                cleaner.note(Notice.DROPPED_VALUE)
            continue
        text = clean_text(str.__str__(raw)).strip()
        name = cut_bytes(text, posthog.MAX_NAME_BYTES)
        if name != text:
            cleaner.note(Notice.CUT_NAME)
        if name and name not in names:
            if len(names) == posthog.MAX_EVENT_NAMES:
                # Each is an event with all properties: one item must not become a million.
                cleaner.note(Notice.CUT_NAME)
                break
            names[name] = None
    return list(names)


def _may_update(item: Item) -> bool:
    """Whether there is a person to update: somebody is known, and the item itself does not forbid it."""
    return not item.subject.personless and item.tags.person_profile is not False


_SPAN_EVENT: Final = SignalKind.SPAN_EVENT
_ENVELOPE: Final = 160
"""Bytes of name, uuid and time as JSON."""
_NEEDS_PERSON: Final = frozenset(
    {posthog.PERSON_SET, posthog.PERSON_SET_ONCE, posthog.PERSON_UNSET, "$anon_distinct_id"}
)
