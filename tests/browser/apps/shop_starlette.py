"""The same shop in Starlette: sessions, its own authentication, and the relay as a part of the app."""

import os

from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.templating import Jinja2Templates

import otel_posthog
from otel_posthog import flags
from otel_posthog.browser import RelayASGI, install

templates = Jinja2Templates(os.path.join(os.path.dirname(__file__), "templates"))
install(templates)


class Account(SimpleUser):
    company = "acme"

    @property
    def id(self):
        return self.username


class Sessions(AuthenticationBackend):
    async def authenticate(self, conn):
        """Whoever the session names."""
        name = conn.session.get("name")
        return (AuthCredentials(["authenticated"]), Account(name)) if name else None


async def index(request):
    """The page."""
    button = await run_in_threadpool(flags.variant, "button", default="plain")
    if not request.user.is_authenticated:
        button = "plain"
    context = {"button": button, "note": request.query_params.get("note", ""), "user": request.user}
    return templates.TemplateResponse(request, "shop.html", context)


async def login(request):
    """Logs in whoever says a name."""
    request.session["name"] = (await request.form())["name"]
    return RedirectResponse("/", 303)


async def logout(request):
    """Logs out."""
    request.session.clear()
    return RedirectResponse("/", 303)


async def order(request):
    """Somebody orders."""
    if not request.user.is_authenticated:
        return Response("who?", 403)
    otel_posthog.capture("order placed", {"total": 12.5})
    return JSONResponse({})


app = Starlette(
    routes=[
        Route("/", index),
        Route("/login", login, methods=["POST"]),
        Route("/logout", logout, methods=["POST"]),
        Route("/api/order", order, methods=["POST"]),
        Mount("/relay", RelayASGI()),
    ],
    middleware=[
        Middleware(SessionMiddleware, secret_key="not a secret"),
        Middleware(AuthenticationMiddleware, backend=Sessions()),
    ],
)
