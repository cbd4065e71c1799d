"""A service that has used the posthog package for years: nothing in it knows of OpenTelemetry."""

import os
from datetime import datetime, timezone

import posthog

posthog.project_api_key = os.environ.get("SHOP_POSTHOG_KEY", "")
posthog.host = os.environ["SHOP_POSTHOG_HOST"]

AT = datetime(2026, 11, 20, 11, 0, 0, tzinfo=timezone.utc)
ID = "0190a0b0-0000-7000-8000-0000000000"

posthog.capture(
    "order paid",
    distinct_id="ada",
    properties={"total": 12.5},
    groups={"company": "acme"},
    timestamp=AT,
    uuid=ID + "01",
)
posthog.set(distinct_id="ada", properties={"plan": "pro"}, timestamp=AT, uuid=ID + "02")
posthog.set_once(distinct_id="ada", properties={"first": 1}, timestamp=AT, uuid=ID + "03")
posthog.alias("anon-1", "ada", timestamp=AT, uuid=ID + "04")
posthog.group_identify("company", "acme", {"seats": 3}, timestamp=AT, uuid=ID + "05", distinct_id="ada")
with posthog.new_context():
    posthog.identify_context("grace")
    posthog.tag("area", "billing")
    posthog.capture("in context", timestamp=AT, uuid=ID + "06")
try:
    raise LookupError("no such order")
except LookupError as error:
    posthog.capture_exception(error, distinct_id="ada", timestamp=AT, uuid=ID + "07")
if os.environ.get("SHOP_POSTHOG_KEY"):
    posthog.get_feature_flag("new-checkout", "ada")
posthog.shutdown()
