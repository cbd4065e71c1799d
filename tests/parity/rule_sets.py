"""A few rule sets that an example may be converted under, from none to the default set."""

from __future__ import annotations

import functools

from otel_posthog.config.settings import RulesConfig
from otel_posthog.rules import RuleSet
from otel_posthog.rules.load import load_rules, parse_text

NONE = ""
SPANS = """
rules:
  - name: vip
    match:
      all:
        - {fields: [shop.kind, code.function], equals: vip}
    capture:
      event: "vip {name}"
      include: ["posthog*", "http.*", "*"]
      properties: {who: "{user.id}", ms: "{duration_ms}"}
    set: {plan: "{posthog.properties.plan}"}
    group: {company: "{posthog.groups.company}"}
    group_set: {company: {kind: "{shop.kind}"}}
  - name: errors
    match: {status: error}
    capture: {event: failed, properties: {text: "{status_description}", service: "{resource.service.name}"}}
    alias: "{enduser.id}"
  - name: long
    match: {name: {glob: "*check*"}}
    on: start
    capture: started
  - name: quiet
    match: {resource: {service.name: cart}}
    drop: true
"""
ALL_KINDS = """
rules:
  - name: events
    match: {kind: span_event, all: [{field: span.kind, exists: true}]}
    capture: {event: "{span.name}", include: ["*"]}
    distinct_id: "{span.user.id}"
  - name: logs
    match: {kind: log, severity: {gte: info}}
    capture: {event: "log {severity}", properties: {body: "{body}", a: "{body.a}", all: [1, true, "{kind}"]}}
    unset: [trial]
  - name: rest
    match: {kind: [span, log], name: {regex: "."}}
    capture: "{name}"
    anon_distinct_id: "{enduser.pseudo.id}"
"""
DEFAULTS = "defaults"

CHOICES = (NONE, SPANS, ALL_KINDS, DEFAULTS)


@functools.cache
def rule_set(choice: str) -> RuleSet:
    """The compiled rules; immutable, so compiled once."""
    if choice == NONE:
        return load_rules(RulesConfig())
    if choice == DEFAULTS:
        return load_rules(RulesConfig(defaults=True))
    return parse_text(choice)
