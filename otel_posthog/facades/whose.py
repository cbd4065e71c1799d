"""Whom a call is about: such helpers take a user object as well as an id."""

from __future__ import annotations

from typing import Any

from otel_posthog.api.values import id_value

_IDS = ("pk", "id")


def id_of(user: Any) -> Any:
    """The distinct id of a user.

    Args:
        user: A user object, with its id in `pk` or `id`; an id; `None` for the person of the context.

    Returns:
        The id; `None` for an anonymous user, who has none; what is neither user nor id as it is, to be complained
        about by the call that it was given to.
    """
    try:
        if user is None or id_value(user) is not None:
            return user
        # Django's AnonymousUser has `pk` and `id`, Flask-Login's has neither but says that it is nobody.
        ids = [found for name in _IDS if id_value(found := getattr(user, name, None)) is not None]
        nobody = not ids and getattr(user, "is_authenticated", None) is False
    except Exception:  # noqa: BLE001 - a model whose row is gone, a proxy outside of its request
        return user
    return ids[0] if ids else None if nobody else user
