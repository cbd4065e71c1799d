"""People and groups as PostHog folds them from events."""

from __future__ import annotations

from typing import Any


def send(client: Any, kit: Any, *events: tuple[str, str, dict[str, Any]]) -> None:
    """One request for each event, so that the order of arrival is the order of the list."""
    for name, distinct_id, properties in events:
        assert client.v0(kit.event(name, distinct_id, properties=properties)).status == 200


def people(emulator: Any) -> dict[tuple[str, ...], dict[str, Any]]:
    """Properties of each person by its distinct ids."""
    return {tuple(person["distinct_ids"]): person["properties"] for person in emulator.persons()}


def test_set_set_once_unset(client: Any, emulator: Any, kit: Any) -> None:
    """The last `$set` wins, the first `$set_once` stays, `$unset` erases after both."""
    send(
        client,
        kit,
        ("a", "ada", {"$set": {"plan": "free", "gone": 1}, "$set_once": {"source": "ad"}}),
        ("b", "ada", {"$set": {"plan": "pro"}, "$set_once": {"source": "mail", "plan": "x"}}),
        ("c", "ada", {"$set": {"back": 1}, "$unset": ["gone", "back", "never"]}),
    )

    assert people(emulator) == {("ada",): {"plan": "pro", "source": "ad"}}


def test_set_on_the_same_event_beats_set_once(client: Any, emulator: Any, kit: Any) -> None:
    """Where one event sets a property both ways, `$set` wins."""
    send(client, kit, ("a", "ada", {"$set": {"p": "set"}, "$set_once": {"p": "once"}}))

    assert people(emulator) == {("ada",): {"p": "set"}}


def test_order_is_the_order_of_arrival(client: Any, emulator: Any, kit: Any) -> None:
    """An older event that arrives later overwrites, as in PostHog."""
    client.v0(kit.event(timestamp="2026-11-20T10:00:00Z", properties={"$set": {"p": "newer"}}))
    client.v0(kit.event(timestamp="2026-11-19T10:00:00Z", properties={"$set": {"p": "older"}}))

    assert people(emulator) == {("ada",): {"p": "older"}}


def test_every_personful_event_makes_a_person(client: Any, emulator: Any, kit: Any) -> None:
    """A plain event makes a person without properties; a personless one makes none and drops person data."""
    send(client, kit, ("a", "ada", {}), ("b", "bob", {"$process_person_profile": False, "$set": {"p": 1}}))

    assert people(emulator) == {("ada",): {}}
    assert [(e["distinct_id"], e["person_mode"], e["properties"]) for e in emulator.events()] == [
        ("ada", "full", {}),
        ("bob", "propertyless", {"$process_person_profile": False}),
    ]


def test_identify_merges_the_anonymous_person(client: Any, emulator: Any, kit: Any) -> None:
    """The properties of both are kept, the identified person's win, its events are one person's."""
    send(
        client,
        kit,
        ("view", "anon", {"$set": {"colour": "red", "plan": "none"}}),
        ("view", "ada", {"$set": {"plan": "pro"}}),
        ("$identify", "ada", {"$anon_distinct_id": "anon", "$set": {"email": "ada@example.com"}}),
    )

    [person] = emulator.persons()
    assert person["distinct_ids"] == ["anon", "ada"]
    assert person["properties"] == {"colour": "red", "plan": "pro", "email": "ada@example.com"}
    assert (person["identified"], person["events"]) == (True, 3)
    assert {event["person_id"] for event in emulator.events()} == {person["id"]}


def test_identify_where_only_one_or_none_is_known(client: Any, emulator: Any, kit: Any) -> None:
    """A known person gets the other id; two unknown ids become one new person."""
    send(
        client,
        kit,
        ("view", "anon", {"$set": {"a": 1}}),
        ("$identify", "ada", {"$anon_distinct_id": "anon"}),
        ("$identify", "bob", {"$anon_distinct_id": "anon-2"}),
    )

    assert people(emulator) == {("anon", "ada"): {"a": 1}, ("bob", "anon-2"): {}}


def test_identify_without_anonymous_id_merges_nothing(client: Any, emulator: Any, kit: Any) -> None:
    """Server SDKs omit `$anon_distinct_id`: properties are set, nobody is merged or identified."""
    send(client, kit, ("view", "anon", {}), ("$identify", "ada", {"$set": {"a": 1}}))

    assert people(emulator) == {("anon",): {}, ("ada",): {"a": 1}}
    assert emulator.person("ada")["identified"] is False


def test_two_identified_people_are_not_merged(client: Any, emulator: Any, kit: Any) -> None:
    """`$identify` and `$create_alias` refuse; `$merge_dangerously` merges."""
    send(
        client,
        kit,
        ("$identify", "ada", {"$anon_distinct_id": "anon-1"}),
        ("$identify", "bob", {"$anon_distinct_id": "anon-2"}),
        ("$create_alias", "ada", {"alias": "bob"}),
    )
    before = people(emulator)
    warned = emulator.events(event="$create_alias")[0]["warnings"]
    send(client, kit, ("$merge_dangerously", "ada", {"alias": "bob"}))

    assert set(before) == {("ada", "anon-1"), ("bob", "anon-2")}
    assert warned == ["cannot_merge_already_identified"]
    assert set(people(emulator)) == {("ada", "anon-1", "bob", "anon-2")}


def test_alias(client: Any, emulator: Any, kit: Any) -> None:
    """2.1: `$create_alias` gives the event's person another id."""
    send(
        client,
        kit,
        ("view", "ada", {"$set": {"a": 1}}),
        ("$create_alias", "ada", {"distinct_id": "ada", "alias": "a2"}),
    )

    assert people(emulator) == {("ada", "a2"): {"a": 1}}


def test_merge_with_an_illegal_id_is_refused(client: Any, emulator: Any, kit: Any) -> None:
    """2.1: nobody is merged with `undefined`."""
    send(
        client,
        kit,
        ("$identify", "ada", {"$anon_distinct_id": "Undefined"}),
        ("$create_alias", "ada", {"alias": "null"}),
    )

    assert people(emulator) == {("ada",): {}}
    assert emulator.stats()["warnings"] == {"cannot_merge_with_illegal_distinct_id": 2}


def test_identifying_events_need_a_person(client: Any, emulator: Any, kit: Any) -> None:
    """`$identify`, `$create_alias`, `$merge_dangerously`, `$groupidentify` are dropped when personless, with a reason."""  # noqa: E501
    names = ("$identify", "$create_alias", "$merge_dangerously", "$groupidentify")
    send(client, kit, *((name, "ada", {"$process_person_profile": False}) for name in names))

    assert emulator.events() == []
    assert emulator.stats()["dropped"] == {"invalid_event_when_process_person_profile_is_false": 4}


def test_set_on_an_exception_is_ignored(client: Any, emulator: Any, kit: Any) -> None:
    """2.1: `$set` on `$exception` changes nobody and warns."""
    listed = [{"type": "E", "value": "v"}]
    send(client, kit, ("$exception", "ada", {"$exception_list": listed, "$set": {"a": 1}}))

    assert people(emulator) == {("ada",): {}}
    assert emulator.stats()["warnings"] == {"set_on_exception": 1}


def test_projects_do_not_share_people(client: Any, emulator: Any, kit: Any) -> None:
    """The same distinct id under two tokens is two people."""
    client.v0(kit.event(properties={"$set": {"p": 1}}), token="phc_one")
    client.v0(kit.event(properties={"$set": {"p": 2}}), token="phc_two")

    assert sorted((person["token"], person["properties"]["p"]) for person in emulator.persons()) == [
        ("phc_one", 1),
        ("phc_two", 2),
    ]


def test_malformed_person_data_is_ignored_with_a_warning(client: Any, emulator: Any, kit: Any) -> None:
    """`$set` that is no object changes nothing."""
    send(client, kit, ("a", "ada", {"$set": "x", "$set_once": [1], "$unset": "p", "$process_person_profile": "no"}))

    assert people(emulator) == {("ada",): {}}
    assert emulator.stats()["warnings"] == {
        "invalid_process_person_profile": 1,
        "invalid_set": 1,
        "invalid_set_once": 1,
    }


def test_groups(client: Any, emulator: Any, kit: Any) -> None:
    """2.2: `$groupidentify` merges properties; `$groups` links events; a personless event has no groups."""
    send(
        client,
        kit,
        ("$groupidentify", "x", {"$group_type": "company", "$group_key": "acme", "$group_set": {"seats": 1, "a": 1}}),
        ("$groupidentify", "x", {"$group_type": "company", "$group_key": "acme", "$group_set": {"seats": 2}}),
        ("bought", "ada", {"$groups": {"company": "acme", "team": 7, "": "x", "bad": {}}}),
        ("bought", "bob", {"$groups": {"company": "globex"}, "$process_person_profile": False}),
        ("$groupidentify", "x", {"$group_type": "company"}),
    )

    assert [
        (group["type"], group["key"], group["properties"], group["identified"], group["events"])
        for group in emulator.groups()
    ] == [("company", "acme", {"seats": 2, "a": 1}, True, 3), ("team", "7", {}, False, 1)]
    assert [event["groups"] for event in emulator.events(event="bought")] == [{"company": "acme", "team": "7"}, {}]
    assert emulator.stats()["warnings"] == {"group_identify_without_type_or_key": 1}


def test_at_most_five_group_types(client: Any, emulator: Any, kit: Any) -> None:
    """2.2: the sixth type of a project is ignored with a warning; another project has its own five."""
    send(client, kit, ("a", "ada", {"$groups": {f"type{n}": "k" for n in range(6)}}))
    client.v0(kit.event(properties={"$groups": {"type9": "k"}}), token="phc_other")

    assert [group["type"] for group in emulator.groups()] == ["type9", "type0", "type1", "type2", "type3", "type4"]
    assert emulator.stats()["warnings"] == {"group_type_limit_exceeded": 1}


def test_the_main_id_is_the_one_that_others_were_merged_into(client: Any, emulator: Any, kit: Any) -> None:
    """A person is called by the id that the app identified, however many visitors came before and after."""
    send(
        client,
        kit,
        ("seen", "anon", {}),
        ("$identify", "ada", {"$anon_distinct_id": "anon"}),
        ("seen", "phone", {}),
        ("$identify", "ada", {"$anon_distinct_id": "phone"}),
        ("seen", "alone", {}),
    )

    assert {person["main_id"]: sorted(person["distinct_ids"]) for person in emulator.persons()} == {
        "ada": ["ada", "anon", "phone"],
        "alone": ["alone"],
    }
