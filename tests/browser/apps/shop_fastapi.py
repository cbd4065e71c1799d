"""The same shop in FastAPI: a dependency says who is there."""

import os
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.templating import Jinja2Templates
from starlette.middleware.sessions import SessionMiddleware

import otel_posthog
from otel_posthog import flags
from otel_posthog.browser import RelayASGI, install

app = FastAPI()
app.add_middleware(SessionMiddleware, secret_key="not a secret")
app.mount("/relay", RelayASGI())
templates = Jinja2Templates(os.path.join(os.path.dirname(__file__), "templates"))
install(templates)


@dataclass
class Account:
    id: str
    company: str = "acme"
    is_authenticated: bool = True


def get_current_user(request: Request) -> Account | None:
    """Whoever the session names."""
    return Account(request.session["name"]) if "name" in request.session else None


User = Annotated[Account | None, Depends(get_current_user)]


@app.get("/")
def index(request: Request, user: User, note: str = "") -> HTMLResponse:
    """The page."""
    button = flags.variant("button", default="plain") if user else "plain"
    return templates.TemplateResponse(request, "shop.html", {"button": button, "note": note, "user": user})


@app.post("/login")
def login(request: Request, name: Annotated[str, Form()]) -> RedirectResponse:
    """Logs in whoever says a name."""
    request.session["name"] = name
    return RedirectResponse("/", 303)


@app.post("/logout")
def logout(request: Request) -> RedirectResponse:
    """Logs out."""
    request.session.clear()
    return RedirectResponse("/", 303)


@app.post("/api/order")
def order(user: User) -> dict[str, str]:
    """Somebody orders."""
    if user is None:
        raise HTTPException(403)
    otel_posthog.capture("order placed", {"total": 12.5})
    return {}
