"""Alive and ready: two questions that a scheduler and a load balancer ask.

Not alive means: start it anew. Not ready means: send nothing to it for now. A gateway whose key was revoked is alive
(a restart would mend nothing, and what it holds is safe), but not ready.
"""

from __future__ import annotations

from typing import Final

from otel_posthog.gateway.admin.sources import AdminSources, Phase, Reason

_PHASES: Final = {
    Phase.STARTING: "it starts",
    Phase.RECOVERING: "it reads what its spool holds from before",
    Phase.STOPPING: "it stops: it accepts nothing any more and delivers what it can",
}


def why_not_alive(sources: AdminSources) -> tuple[Reason, ...]:
    """Reasons for starting the process anew; empty where it is alive."""
    if sources.phase() is Phase.STOPPING:
        return ()  # threads end now, one after the other
    return tuple(
        Reason("threads", "a thread that should run has ended", subject=name) for name in sources.dead_threads()
    )


def why_not_serving(phase: Phase) -> Reason | None:
    """The reason of a life that has not begun, or ends."""
    return None if phase is Phase.SERVING else Reason("phase", _PHASES[phase])


def why_not_ready(sources: AdminSources) -> tuple[Reason, ...]:
    """Reasons for sending nothing to it; empty where it is ready."""
    reasons: list[Reason] = []
    if reason := why_not_serving(sources.phase()):
        reasons.append(reason)
    reasons += why_not_alive(sources)
    if error := sources.spool_error():
        reasons.append(Reason("spool", f"the spool takes nothing: {error}"))
    for project in sources.projects():
        if blocked := project.bridge.delivery_stats().blocked:
            reasons.append(Reason("delivery", f"PostHog takes nothing: {blocked}", subject=project.name))
    reasons += sources.not_ready()
    return tuple(reasons)
