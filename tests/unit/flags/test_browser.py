"""`flags.bootstrap`: what posthog-js starts with, safe within `<script>`."""

from __future__ import annotations

import json

import django
import pytest
from django.conf import settings as django_settings
from flask import Flask, render_template_string
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog import flags
from otel_posthog.api.people import identify
from otel_posthog.context import working
from otel_posthog.context.ambient import Ambient
from otel_posthog.emulator import Emulator
from otel_posthog.flags.browser import Bootstrap
from tests.unit.flags.conftest import Calls


def test_variants_are_kept(running: None, calls: Calls) -> None:
    """In the full form; the form of booleans has them as on. Payloads only where they are asked for."""
    only = ["timer-ui-experiment", "beta-features", "no-such-flag"]
    with working(Ambient(distinct_id="ada")):
        assert flags.bootstrap(only=only) == {
            "distinctID": "ada",
            "isIdentifiedID": True,
            "featureFlags": {"timer-ui-experiment": "variant-b", "beta-features": False},
        }
        assert flags.bootstrap(only=only, booleans=True)["featureFlags"] == {
            "timer-ui-experiment": True,
            "beta-features": False,
        }
        assert flags.bootstrap(only=only, payloads=True)["featureFlagPayloads"] == {
            "timer-ui-experiment": {"colour": "blue"}
        }
        assert set(flags.bootstrap()["featureFlags"]) >= {"new-dashboard", "admin-tools"}
    assert calls() == []


def test_a_visitor_is_not_identified(running: None) -> None:
    """posthog-js must not take an anonymous id for a person."""
    with working(Ambient(anonymous_id="visitor-4")):
        page = flags.bootstrap(only=["new-dashboard"])
        assert page == {
            "distinctID": "visitor-4",
            "isIdentifiedID": False,
            "featureFlags": {"new-dashboard": True},
        }
        identify("ada")
        assert flags.bootstrap(only=[])["distinctID"] == "ada"
    assert flags.bootstrap() == {"featureFlags": {}}


HOSTILE = "</script><!--'\"&\u2028\u2029\x00é"


def test_in_templates_of_jinja_and_django(emulator: Emulator) -> None:
    """Both take it as it is; what comes out is JSON, and ends no element."""
    with flags.override({HOSTILE: HOSTILE}):
        app = Flask("shop")
        with app.app_context():
            jinja = render_template_string("{{ page }}", page=flags.bootstrap())
        if not django_settings.configured:
            django_settings.configure(TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}])
            django.setup()
        from django.template import Context, Engine

        rendered = Engine().from_string("{{ page }}").render(Context({"page": flags.bootstrap()}))

    assert jinja == rendered
    assert json.loads(jinja) == {"featureFlags": {HOSTILE: HOSTILE}}
    assert not set("<>&'") & set(jinja)
    assert jinja.isascii()


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.dictionaries(st.text(), inner)))
def test_any_value_is_safe(value: object) -> None:
    """Whatever a flag is called, and whatever it brings."""
    page = Bootstrap(featureFlags={"a": value})

    text = str(page)
    assert not set("<>&'") & set(text)
    assert text.isascii()
    assert json.loads(text) == page


@pytest.mark.parametrize("way", [str, Bootstrap.json, Bootstrap.__html__])
def test_it_is_json_in_each_of_its_forms(way: object) -> None:
    """Also where it is put into a text."""
    assert callable(way)
    assert json.loads(way(Bootstrap(a=1))) == {"a": 1}
