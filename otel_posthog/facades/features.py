"""Feature flags: `get_feature_flag` and its kin. The user comes first in most of them, the flag second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from uuid import UUID

from otel_posthog import flags
from otel_posthog.facades.whose import id_of
from otel_posthog.flags.answer import FlagValue

F = TypeVar("F", bound=Callable[..., Any])


def get_feature_flag(user: Any, flag_key: str, default: bool = False) -> bool:
    """Whether a flag is on for a user; any variant is on. Never raises.

    Args:
        user: A user object or an id; `None` for the person of the context.
        flag_key: The flag.
        default: What counts where there is no answer; a flag that says no beats `default=True`.
    """
    return flags.enabled(flag_key, id_of(user), default)


def is_feature_enabled(
    feature_key: str, user: Any = None, *, groups: Mapping[str, str | int | UUID] | None = None, default: bool = False
) -> bool:
    """The same with the flag first; groups of the context count by themselves. Never raises.

    Args:
        feature_key: The flag.
        user: As for `get_feature_flag`.
        groups: Group type -> key, above those of the context.
        default: As for `get_feature_flag`.
    """
    return flags.enabled(feature_key, id_of(user), default, groups=groups)


def get_feature_flag_payload(user: Any, flag_key: str) -> Any:
    """What a flag brings along for a user. Never raises.

    Args:
        user: As for `get_feature_flag`.
        flag_key: The flag.

    Returns:
        The payload; where there is none an empty dict, and not `None`: callers go on with `.get(…)`.
    """
    return flags.payload(flag_key, id_of(user), default={})


def get_all_feature_flags(user: Any) -> dict[str, FlagValue]:
    """Every flag and its value for a user, by one question; empty where there is no answer. Never raises.

    Args:
        user: As for `get_feature_flag`.
    """
    return flags.all(id_of(user))


def get_active_experiments(user: Any) -> dict[str, str]:
    """The flags with variants, and the one that a user has. Never raises.

    Args:
        user: As for `get_feature_flag`.
    """
    return flags.experiments(id_of(user))


def feature_flag_required(flag_key: str, redirect_to: str | None = None) -> Callable[[F], F]:
    """Guards a view by a flag, for the user of its request: below the route's decorator.

    Args:
        flag_key: The flag.
        redirect_to: Where others go, those who are nobody too; they get 403 where `None`.
    """
    return flags.required(flag_key, redirect_to)


def inject_feature_flags_to_frontend(user: Any, *, booleans: bool = False) -> dict[str, FlagValue]:
    """A user's flags for a page: `window.featureFlags = {{ feature_flags|tojson }}`. Never raises; no payloads.

    Args:
        user: As for `get_feature_flag`.
        booleans: Whether on or off, in place of variants, which are true in JavaScript, too.
    """
    return flags.bootstrap(id_of(user), booleans=booleans)["featureFlags"]


def track_feature_flag_interaction(
    user: Any, flag_key: str, action: str, properties: Mapping[str, Any] | None = None
) -> str | None:
    """A user did something with what a flag brought: `feature_interaction`. Never raises, blocks or does I/O.

    Args:
        user: As for `get_feature_flag`.
        flag_key: The flag.
        action: What was done.
        properties: Further ones.

    Returns:
        As `otel_posthog.capture`.
    """
    return flags.interaction(flag_key, action, properties, distinct_id=id_of(user))
