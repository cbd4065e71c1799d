"""What became of every signal and every event: exactly one outcome, with a reason.

The books balance, and a test fixture checks them after every bridge test:

    signals:  received = captured + dropped(reason) + refused
    events:   captured = delivered + spooled + dead_lettered(reason) + lost(reason) + pending
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum

from otel_posthog.model.capture import CaptureEvent
from otel_posthog.model.frozen import frozen


class DropReason(str, Enum):
    """Why a signal was converted into nothing. Final: it will never be sent."""

    NOT_TAGGED = "not_tagged"
    """No `posthog.*` tag, no exception, no flag evaluation, and no rule matched."""
    IGNORED = "ignored"
    """`posthog.ignore` is true."""
    RULE = "rule"
    """A rule says drop."""
    EMPTY_NAME = "empty_name"
    """The tag gave an empty event name and nothing else to do."""
    IDENTITY_ONLY = "identity_only"
    """A rule matched that names no event: it says who the item belongs to, or the values that it sets are missing."""
    NO_SUBJECT = "no_subject"
    """A person or alias update without anybody to apply it to."""
    CONTROL_FLOW = "control_flow"
    """An exception that is no error: an HTTP answer below 500, a cancelled task, an exit."""
    DUPLICATE_EXCEPTION = "duplicate_exception"
    """The same exception was captured from another carrier."""
    DUPLICATE = "duplicate"
    """The same content was captured already (once-only items)."""
    CARRIED_BY_LOG = "carried_by_log"
    """The process that emitted it sends the same item as a log record with its final uuid."""
    AI_SPAN = "ai_span"
    """A `gen_ai.*` span: left to PostHog's own AI endpoint."""
    REPORTED_BY_POSTHOG = "reported_by_posthog"
    """A flag evaluation by PostHog's own provider, which sends the `$feature_flag_called` itself."""
    TOO_BIG = "too_big"
    """Still over the event size limit after everything that may be cut was cut."""
    INVALID = "invalid"
    """It cannot be converted; a bug or hostile input."""


class LossReason(str, Enum):
    """Why a captured event did not reach its sink."""

    REJECTED = "rejected"
    """The server refused this event for good."""
    DROPPED_BY_SERVER = "dropped_by_server"
    """Capture v1 answered `drop` for it."""
    RETRIES_EXHAUSTED = "retries_exhausted"
    SHUTDOWN = "shutdown"
    """The exit deadline passed before it could be sent or spooled."""
    SPOOL_FULL = "spool_full"
    ENCODE = "encode"
    """It could not be serialised; a bug."""


class Notice(str, Enum):
    """Something about a captured signal that its owner should know; counted, never fatal."""

    ILLEGAL_DISTINCT_ID = "illegal_distinct_id"
    CUT_DISTINCT_ID = "cut_distinct_id"
    CUT_NAME = "cut_name"
    CUT_VALUE = "cut_value"
    CUT_PROPERTIES = "cut_properties"
    DROPPED_VALUE = "dropped_value"
    """A value of a type that has no JSON form."""
    BAD_UUID = "bad_uuid"
    BAD_SESSION_ID = "bad_session_id"
    BAD_TIME = "bad_time"
    UNPARSED_STACK = "unparsed_stack"
    TOO_MANY_GROUPS = "too_many_groups"
    NO_SUBJECT = "no_subject"
    """The event was captured, but its person or group update had nobody to apply to."""


@frozen
class Decision:
    """What the converter (and then policy) made of one signal.

    Args:
        events: The capture events; empty means dropped.
        reason: Why there are none; `None` where there are some.
        rule: Name of the rule that decided, "" where a tag or nothing did.
        notices: What was mended on the way.
    """

    events: tuple[CaptureEvent, ...] = ()
    reason: DropReason | None = None
    rule: str = ""
    notices: tuple[Notice, ...] = ()


@frozen
class AcceptResult:
    """The bridge's answer for one batch of signals.

    Args:
        received: Signals handed in.
        captured: Signals whose events delivery took.
        dropped: Signals that are final without an event, by reason.
        refused: Signals that the sender should try again (delivery had no room).
    """

    received: int = 0
    captured: int = 0
    dropped: Mapping[DropReason, int] = field(default_factory=dict[DropReason, int])
    refused: int = 0
