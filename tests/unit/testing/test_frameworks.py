"""Apps of frameworks, by their own test clients; functions by configuration; the `posthog` package."""

from __future__ import annotations

from tests.unit.testing.test_plugin import OPEN, Project, project

__all__ = ["project"]

APPS = """
    import django, flask, posthog
    from django.conf import settings
    settings.configure(
        ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", INSTALLED_APPS=[], MIDDLEWARE=[], DATABASES={},
        REST_FRAMEWORK={"UNAUTHENTICATED_USER": None}
    )
    django.setup()
    import fastapi
    from django.http import HttpResponse
    from django.urls import path
    from rest_framework.response import Response
    from rest_framework.views import APIView
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    import otel_posthog

    def visit(who):
        if who:
            otel_posthog.identify(who)
        otel_posthog.capture("visited", {"named": bool(who)})
        return "ok"

    shop = flask.Flask("shop")
    shop.add_url_rule("/<who>", view_func=visit, endpoint="named")
    shop.add_url_rule("/", view_func=lambda: visit(""), endpoint="nobody")

    class Visit(APIView):
        def get(self, request, who=""):
            otel_posthog.capture("visited", {"named": bool(request.user)})
            return Response()

    urlpatterns = [
        path("api/<who>", Visit.as_view()), path("api/", Visit.as_view()),
        path("<who>", lambda request, who: HttpResponse(visit(who))), path("", lambda request: HttpResponse(visit("")))
    ]

    async def page(request):
        return PlainTextResponse(visit(request.path_params.get("who", "")))

    asgi = Starlette(routes=[Route("/{who}", page), Route("/", page)])

    api = fastapi.FastAPI()

    def current_user(who: str = ""):
        return {"id": who} if who else None

    @api.get("/")
    async def me(user: dict | None = fastapi.Depends(current_user)):
        otel_posthog.capture("visited", {"named": bool(user)})

    def charge(amount, who):
        return amount * 2

    def old_code():
        posthog.Posthog("phc_test", host="http://127.0.0.1:9").capture("old event", distinct_id="ada")
"""

TESTS = """
    import apps, pytest
    from django.test import Client
    from rest_framework.test import APIClient
    from starlette.testclient import TestClient

    def check(events):
        seen = [(event.properties["named"], event.personless) for event in events.named("visited")]
        assert seen == [(True, False), (False, True)]
        assert events.of("ada").one("visited")

    def test_flask(captured_events):
        client = apps.shop.test_client()
        assert [client.get(path).status_code for path in ("/ada", "/")] == [200, 200]
        check(captured_events)

    def test_django(captured_events):
        client = Client()
        assert [client.get(path).status_code for path in ("/ada", "/")] == [200, 200]
        check(captured_events)

    def test_starlette(captured_events):
        with TestClient(apps.asgi) as client:
            assert [client.get(path).status_code for path in ("/ada", "/")] == [200, 200]
        check(captured_events)

    def test_fastapi(captured_events):
        client = TestClient(apps.api)
        assert [client.get(path).status_code for path in ("/?who=ada", "/")] == [200, 200]
        check(captured_events)

    def test_rest_framework(captured_events):
        client = APIClient()
        client.force_authenticate({"id": "ada"})
        assert client.get("/api/ada").status_code == 200
        assert APIClient().get("/api/").status_code == 200
        check(captured_events)

    RULES = '''
    functions:
      "apps:charge": {event: charged, distinct_id: args.who, properties: {amount: args.amount}}
    '''

    @pytest.mark.otel_posthog(rules=RULES)
    def test_functions(captured_events):
        assert apps.charge(3, who="ada") == 6
        event = captured_events.one("charged")
        assert (event.distinct_id, event.properties["amount"], event.properties["duration_ms"]) == ("ada", 3, 0.0)

    def test_functions_are_as_they_were(captured_events):
        assert apps.charge(3, who="ada") == 6
        assert captured_events == []

    def test_the_posthog_package(captured_events):
        apps.old_code()
        assert captured_events.one("old event").distinct_id == "ada"

    def test_any_project_of_the_posthog_package(captured_events, monkeypatch):
        import posthog

        # The key and host of production, as an app sets them; and those of a historical import.
        monkeypatch.setattr(posthog, "project_api_key", "phc_production")
        monkeypatch.setattr(posthog, "host", "http://127.0.0.1:9")
        monkeypatch.setattr(posthog, "default_client", None)
        posthog.capture("of the app", distinct_id="ada")
        old = posthog.Posthog("phc_other", host="http://localhost:9", historical_migration=True)
        old.capture("of an import", distinct_id="ada")
        assert [event.name for event in captured_events] == ["of the app", "of an import"]
        assert old.queue.empty() and posthog.default_client.queue.empty()
"""


def test_apps_of_frameworks(project: Project) -> None:
    """Each request is somebody's of its own, as in production; functions and the SDK's calls are captured, too."""
    project.write("apps.py", APPS)
    project.write("test_apps.py", TESTS)
    said = project.run("-q", **OPEN)

    assert "9 passed" in said, said
