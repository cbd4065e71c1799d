"""The relay as a blueprint of Flask: `app.register_blueprint(relay_blueprint(), url_prefix="/relay")`."""

from __future__ import annotations

from flask import Blueprint, Response, request

from otel_posthog.browser.relay_servers import wsgi_answer


def relay_blueprint(name: str = "otel_posthog_relay") -> Blueprint:
    """A blueprint that relays what posthog-js asks.

    Args:
        name: Of the blueprint; for the app's own use.
    """
    blueprint = Blueprint(name, __name__)

    def relayed(path: str) -> Response:
        answer = wsgi_answer(request.environ, f"/{path}")
        response = Response(answer.body, answer.status)
        del response.headers["content-type"]
        for header, value in answer.headers.items():
            response.headers[header] = value
        return response

    blueprint.add_url_rule("/<path:path>", "relayed", relayed, methods=["GET", "POST"])
    return blueprint


__all__ = ["relay_blueprint"]
