"""The browser's half: posthog-js in pages for the same person, session, groups and flags as the server, and a relay.

    {{ posthog_script() }}

`page` says what a page needs to know, `markup` writes it, `jinja` and `django` are where templates find it; `relay` is
what posthog-js asks in place of PostHog, with an entrance for each kind of server. `static/` holds the JavaScript.
See docs/browser.md.
"""

from typing import TYPE_CHECKING

from otel_posthog.lazy import lazy_exports

if TYPE_CHECKING:
    from otel_posthog.browser.jinja import install, posthog_script
    from otel_posthog.browser.relay_flask import relay_blueprint
    from otel_posthog.browser.relay_servers import RelayASGI, RelayWSGI

__all__ = ["RelayASGI", "RelayWSGI", "install", "posthog_script", "relay_blueprint"]

__getattr__ = lazy_exports(
    __name__,
    {
        "RelayASGI": "relay_servers",
        "RelayWSGI": "relay_servers",
        "install": "jinja",
        "posthog_script": "jinja",
        "relay_blueprint": "relay_flask",
    },
)
