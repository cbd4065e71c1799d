"""The frameworks that are known: one instrumentor for each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from otel_posthog import assembly
from otel_posthog.instrumentation.instrumentor import Hook, PostHogInstrumentor

if TYPE_CHECKING:
    from otel_posthog.instrumentation.hooks import Hooks


class FrameworkInstrumentor(PostHogInstrumentor):
    """Finds people in one framework."""

    watched: ClassVar[tuple[str, ...]] = ()
    """Modules in which something is to be done when they have been imported."""
    finds: ClassVar[str] = ""
    """What it finds, for people."""
    done_by: ClassVar[str] = ""
    """By whom: `module:class` of `Hooks`, loaded with the first of these modules."""

    def __init__(self) -> None:
        super().__init__()
        if "at_work" not in self.__dict__:
            self.at_work: Hooks | None = None
            """What is done there; `None` while it is off, or the framework has not been imported."""

    def hooks(self) -> Mapping[str, Hook]:
        """What is watched."""
        return {module: partial(self._do, module) for module in self.watched}

    def _do(self, name: str, module: Any) -> None:
        work = self.at_work
        if work is None or not work.on:
            work = self.at_work = self._made()
        if work is not None:
            work.modules()[name](module)

    def _made(self) -> Hooks | None:
        from importlib import import_module

        from otel_posthog.api.process import process
        from otel_posthog.instrumentation.people import people_of

        process.get()  # starts the runtime where nobody did before
        runtime = assembly.current()
        if runtime is None:
            return None
        module, _, name = self.done_by.partition(":")
        return getattr(import_module(module), name)(people_of(runtime), self.patches)

    def _uninstrument(self, **_: Any) -> None:
        self.at_work = None
        super()._uninstrument()


class PostHogFlaskInstrumentor(FrameworkInstrumentor):
    """Finds the users of Flask apps, with Flask-Login (and Flask-Security, which is built on it) or without."""

    framework: ClassVar[str] = "flask"
    finds: ClassVar[str] = "users of Flask-Login and g.user, sessions, answered errors"
    oldest: ClassVar[tuple[int, int]] = (2, 3)
    watched: ClassVar[tuple[str, ...]] = ("flask.app", "flask_login.login_manager", "flask_security.signals")
    done_by: ClassVar[str] = "otel_posthog.instrumentation.flask:FlaskHooks"


class PostHogDjangoInstrumentor(FrameworkInstrumentor):
    """Finds the users of Django apps; of allauth and REST framework, too."""

    framework: ClassVar[str] = "django"
    finds: ClassVar[str] = "users of django.contrib.auth, allauth and REST framework, answered errors"
    oldest: ClassVar[tuple[int, int]] = (4, 2)
    watched: ClassVar[tuple[str, ...]] = (
        "django.core.handlers.base",
        "django.contrib.auth",
        "allauth.account.signals",
        "rest_framework.request",
        "rest_framework.views",
        "rest_framework.authtoken.serializers",
        "rest_framework_simplejwt.serializers",
    )
    done_by: ClassVar[str] = "otel_posthog.instrumentation.django:DjangoHooks"


_BRIDGES: Final = ("starlette.middleware.wsgi", "a2wsgi.wsgi", "asgiref.wsgi")
"""By which apps of Flask and Django are mounted in others."""


class PostHogStarletteInstrumentor(FrameworkInstrumentor):
    """Finds the users of Starlette apps."""

    framework: ClassVar[str] = "starlette"
    finds: ClassVar[str] = "request.user, request.state.user, sessions, answered errors"
    oldest: ClassVar[tuple[int, int]] = (0, 35)
    watched: ClassVar[tuple[str, ...]] = ("starlette.applications", *_BRIDGES)
    done_by: ClassVar[str] = "otel_posthog.instrumentation.starlette:StarletteHooks"


class PostHogFastAPIInstrumentor(FrameworkInstrumentor):
    """Finds the users of FastAPI apps; of FastAPI Users, too."""

    framework: ClassVar[str] = "fastapi"
    finds: ClassVar[str] = "request.user, request.state.user, dependencies, sessions, answered errors"
    oldest: ClassVar[tuple[int, int]] = (0, 106)
    watched: ClassVar[tuple[str, ...]] = (
        "fastapi.applications",
        "fastapi.routing",
        "fastapi_users.manager",
        "fastapi_users.authentication.authenticator",
        "fastapi_users.authentication.backend",
        *_BRIDGES,
    )
    done_by: ClassVar[str] = "otel_posthog.instrumentation.fastapi:FastAPIHooks"


class PostHogCeleryInstrumentor(FrameworkInstrumentor):
    """Takes the person, groups, session and super properties of the work at hand into tasks."""

    framework: ClassVar[str] = "celery"
    finds: ClassVar[str] = "person, groups and session travel into tasks"
    oldest: ClassVar[tuple[int, int]] = (5, 2)
    watched: ClassVar[tuple[str, ...]] = ("celery.signals", "celery.app.trace")
    done_by: ClassVar[str] = "otel_posthog.instrumentation.celery:CeleryHooks"


ALL: tuple[type[FrameworkInstrumentor], ...] = (
    PostHogCeleryInstrumentor,
    PostHogDjangoInstrumentor,
    PostHogFastAPIInstrumentor,
    PostHogFlaskInstrumentor,
    PostHogStarletteInstrumentor,
)
