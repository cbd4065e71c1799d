"""The status as text for people."""

from __future__ import annotations

from otel_posthog.cli.status import Status
from otel_posthog.cli.terminal import Page


def render(status: Status, page: Page) -> str:
    """Lays out `status` on `page`."""
    page.title(_title(status))
    page.heading("Gate")
    page.rows(
        ("ok" if check.passed else "problem", check.name, check.reason, _unless_said(check.source, check.reason))
        for check in status.checks
    )
    page.heading("Features")
    if status.enabled:
        page.rows(
            ("ok" if each.on else "off", each.name, each.why, _unless_said(each.source, each.why))
            for each in status.features
        )
    else:
        page.text(f"All off: {status.features[0].why}.")
    page.heading("Versions")
    distro = status.distro or "none: opentelemetry-instrument sets up no SDK, otel-posthog run does"
    page.rows(("note", name, what, "") for name, what in [*status.versions.items(), ("distribution in use", distro)])
    page.heading("This process")
    if status.attached is None:
        page.text(
            "This command sees the environment, not your running service: what is attached there, its log says at "
            "level INFO (logger otel_posthog)."
        )
    for signal, processors in status.processors.items():
        ours = [name for name in processors if name.startswith("otel_posthog.")]
        page.rows([("ok" if ours else "off", signal, ", ".join(processors) or "no processors", "")])
    if status.warnings:
        page.heading("Worth knowing")
        for warning in status.warnings:
            page.text(f"! {warning[0].upper()}{warning[1:]}.")
    return str(page)


def _title(status: Status) -> str:
    start = f"otel-posthog {status.versions['otel-posthog']}: "
    return start + (f"on, {status.mode} mode" if status.enabled else f"off, because {status.reason}")


def _unless_said(source: str, text: str) -> str:
    return "" if source in text else source
