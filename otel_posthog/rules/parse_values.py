"""What a rule writes: templates, and values of properties."""

from __future__ import annotations

from otel_posthog.rules.at import At
from otel_posthog.rules.parse_conditions import ConditionReader
from otel_posthog.rules.parse_scalars import shown_node
from otel_posthog.rules.rule import Group, ListValue, Literal, Value
from otel_posthog.rules.template import Template, parse_template


class ValueReader(ConditionReader):
    """Reads values; a condition can be one, too."""

    def template(self, at: At) -> Template:
        """Text with references in braces."""
        value = at.node.value
        if at.node.mapping is not None:
            raise self.error("a mapping stands where text belongs", at, 'Put a reference in quotes: "{user.id}"')
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            raise self.error(f"{shown_node(at.node)} stands where text belongs", at, "Put it in quotes")
        text = self.text(at)
        return self.attempt(lambda: parse_template(text), at)

    def property(self, at: At) -> Value:
        """The value of a property: a list, a condition, text or a single value."""
        if at.node.sequence is not None:
            return ListValue(tuple(self.list_member(member) for member in at.members()))
        if at.node.mapping is None:
            return self.list_member(at)
        # `{shop.total}` without quotes is a YAML mapping of that key to nothing: the commonest slip of all.
        if any(entry.node.value is None for entry in at.node.mapping.values()):
            name = next(iter(at.node.mapping))
            raise self.error("a reference without quotes is a YAML mapping", at, f'Write "{{{name}}}"')
        condition = self.condition(at)
        if isinstance(condition, Group):
            raise self.error("only a single condition can be a value", at, "Write `field` and operators")
        return condition

    def list_member(self, at: At) -> Literal | Template:
        """A value that is not a list."""
        if isinstance(at.node.value, str):
            source = at.node.value
            template = self.attempt(lambda: parse_template(source), at)
            return template if template.references else Literal(template.text or "")
        return Literal(self.scalar(at))

    def values(self, at: At) -> tuple[tuple[str, Value], ...]:
        """Names and values."""
        return self.named(at, self.property)

    def group_values(self, at: At) -> tuple[tuple[str, tuple[tuple[str, Value], ...]], ...]:
        """Group types, each with names and values."""
        return self.named(at, self.values)

    def templates(self, at: At) -> tuple[tuple[str, Template], ...]:
        """Names and templates."""
        return self.named(at, self.template)
