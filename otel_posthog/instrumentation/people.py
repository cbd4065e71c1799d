"""What follows from a user, a login and a logout, in whichever framework they were seen.

- A login, or a signup: the request, and what was captured in it before, is this person's; their mapped properties are
  set; the anonymous id that the browser had becomes theirs (`$identify`).
- A user in a later request: the request is this person's. Nothing is sent, unless a mapped property changed.
- A logout: the rest of the request is nobody's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Final, cast

from otel_posthog.api.groups import group
from otel_posthog.api.people import identify, reset
from otel_posthog.api.values import id_value
from otel_posthog.assembly import Runtime
from otel_posthog.config.settings import Mode, Settings
from otel_posthog.context.ambient import Ambient
from otel_posthog.instrumentation import browser
from otel_posthog.instrumentation.user import Login, UserReader, is_known, is_scalar
from otel_posthog.instrumentation.visit import Visit
from otel_posthog.observe.guard import Guard, logger
from otel_posthog.rules.load import load_users
from otel_posthog.rules.users import UsersConfig, UserSource

USUAL: Final = (
    UserSource("g", "user"),
    UserSource("state", "user"),
    UserSource("dependency", "get_current_user"),
    UserSource("dependency", "get_current_active_user"),
    UserSource("dependency", "current_user"),
)
"""Where users are by convention, beside what login packages tell."""

_KEPT: Final = 10_000
"""People, and anonymous ids, that are remembered."""
_PENDING: Final = 0
"""In place of a digest: who logged in is known by id alone."""
_PEOPLE: Final = "instrumentation_people"
_STANDS_BACK: Final = (
    "otel-posthog: rules say who people are, so frameworks are not asked who is logged in. Say in the rules file that "
    'they have the same ids, e.g. `users: {distinct_id: "user-{user.id}"}`, and they are'
)
_NO_ID: Final = (
    "otel-posthog: a user of type %s has no id that could be a distinct id, and is not identified. Say where it is in "
    "the rules file, e.g. `users: {distinct_id: user.uuid}`"
)


class People:
    """One for a process: what is remembered of people in it.

    Args:
        config: The section `users:`.
        trusted: Whether what browsers say of themselves is believed.
        project_key: The project's key where it is known.
        guard: Counts what is swallowed.
    """

    def __init__(self, config: UsersConfig, *, trusted: bool, project_key: str, guard: Guard) -> None:
        self.guard = guard
        self._stands_back = config.stands_back
        if self._stands_back:
            logger.info(_STANDS_BACK)
        self.sources = () if self._stands_back else USUAL if config.sources is None else config.sources
        self._strict = config.sources is None
        self._config = config
        self._reader = UserReader(config)
        self._trusted = trusted
        self._project_key = project_key
        self._properties: dict[str, int] = {}
        self._merged: dict[str, str] = {}

    def sources_of(self, kind: str) -> tuple[str, ...]:
        """Names of the sources of this kind."""
        return tuple(source.name for source in self.sources if source.kind == kind)

    def calls(self) -> tuple[Callable[[Any], Any], ...]:
        """The app's own functions from a request to its user, loaded when they are first called."""
        return tuple(_Call(name) for name in self.sources_of("call"))

    @property
    def by_own_id(self) -> bool:
        """Whether people are who their framework's own ids say: then an id alone will do."""
        return self._config.distinct_id is None

    # --- the edge of a request ---------------------------------------------------------------------------------------

    def arrive_wsgi(self, environ: Mapping[str, Any]) -> Visit:
        """A visit for a WSGI request; it has not begun."""
        get = environ.get
        one, two, three = browser.WSGI_NAMES
        return self.arrive((get(one), get(two), get(three)), get("HTTP_COOKIE"))

    def arrive(self, headers: Sequence[str | None], cookies: str | None) -> Visit:
        """A visit for a request with these headers; it has not begun.

        Args:
            headers: The values of `browser.HEADERS`.
            cookies: The header `cookie`.
        """
        if not self._trusted:
            return Visit()
        claim = browser.claim_of(headers, cookies, project_key=self._project_key)
        if claim is browser.NOTHING:
            return Visit()
        return Visit(
            Ambient(
                anonymous_id=claim.distinct_id,
                session_id=claim.session_id,
                window_id=claim.window_id,
                claimed=not claim.anonymous_id,
            ),
            browser_id=claim.anonymous_id,
        )

    # --- users -------------------------------------------------------------------------------------------------------

    def logged_in(self, visit: Visit | None, user: Any, login: Login, session: Mapping[str, Any] | None = None) -> None:
        """Somebody logged in, or signed up.

        Args:
            visit: The request; `None` outside of any, where only the person's properties are set.
            user: The user object, or a bare id.
            login: How.
            session: The session, where it is open.
        """
        person = self._person(user, session, sure=True)
        if not person:
            return
        login = login._replace(at=login.at or datetime.now(timezone.utc))
        values = self._reader.values(self._config.set, user, login, session)
        once = self._reader.values(self._config.set_once, user, login, session)
        # Of a bare id nothing is known yet: it is set when the user is loaded.
        whole = not is_scalar(user) or not (self._config.set or self._config.set_once)
        _remember(self._properties, person, self._digest(user, session) if whole else _PENDING)
        if visit is None:
            if values or once:
                from otel_posthog.api.people import set_person

                set_person(values, once, distinct_id=person)
            return
        visit.user = user
        merged = self._merging(visit, person)
        if merged:
            _remember(self._merged, merged, person)
        visit.change(anonymous_id=merged)
        identify(person, values or None, once or None)
        self._group(visit, user, session)

    def seen(
        self, visit: Visit | None, user: Any, session: Mapping[str, Any] | None = None, *, silent: bool = False
    ) -> None:
        """A request is the one of this user.

        Args:
            visit: The request.
            user: The user object, or a bare id; one who is not logged in counts as none.
            session: The session, where it is open.
            silent: No login is ever seen where this user comes from (a token in each request): the first request of a
                person, and the first with an anonymous id, counts as one.
        """
        if visit is None or user is visit.user or not is_known(user):
            return
        visit.user = user
        # A bare id that nobody named in the configuration may be a name or an address.
        person = self._person(user, session, sure=not (self._strict and silent))
        if not person:
            return
        if silent and (person not in self._properties or self._merging(visit, person)):
            self.logged_in(visit, user, Login(), session)
            return
        changed, once = self._changed(person, user, session)
        if changed or once or visit.ambient.distinct_id != person:
            if visit.ambient.anonymous_id:
                visit.change(anonymous_id="")
            identify(person, changed or None, once or None)
        self._group(visit, user, session)

    def returned(self, visit: Visit, person: str) -> None:
        """A request is this person's, of whom no user object was loaded.

        Args:
            visit: The request.
            person: Who they were found to be when they were loaded before.
        """
        if visit.ambient.distinct_id != person:
            visit.change(anonymous_id="")
            identify(person)

    def logged_out(self, visit: Visit | None) -> None:
        """Whoever was logged in is not any more."""
        if visit is not None:
            visit.browser_id = ""
            visit.user = None
            reset()

    def _person(self, user: Any, session: Mapping[str, Any] | None, *, sure: bool) -> str:
        if self._stands_back or (is_scalar(user) and not sure):
            return ""
        person = self._reader.person(user, session)
        if not person:
            self.guard.misused("user_id", _NO_ID, type(user).__name__)
        return person

    def _changed(
        self, person: str, user: Any, session: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Properties to set, and to set once, of somebody who is not just logging in."""
        if is_scalar(user) or not (self._config.set or self._config.set_once):
            return {}, {}
        digest = self._digest(user, session)
        before = self._properties.get(person)
        if before == digest:
            return {}, {}
        _remember(self._properties, person, digest)
        if before is None:
            return {}, {}  # not seen before in this process: nobody knows whether anything changed
        values = self._reader.values(self._config.set, user, None, session)
        return values, self._reader.values(self._config.set_once, user, None, session) if before == _PENDING else {}

    def _merging(self, visit: Visit, person: str) -> str:
        """The anonymous id that becomes `person`'s, "" where there is none, or it is somebody's already."""
        anonymous = visit.browser_id
        taken = anonymous == person or anonymous in self._properties or anonymous in self._merged
        return "" if taken else anonymous

    def _group(self, visit: Visit, user: Any, session: Mapping[str, Any] | None) -> None:
        if not self._config.groups:
            return
        for name, key in self._reader.values(self._config.groups, user, None, session).items():
            text = id_value(key)
            if text is not None and visit.ambient.groups.get(name) != str(text):
                group(name, str(text))

    def _digest(self, user: Any, session: Mapping[str, Any] | None) -> int:
        # What a login says is no property that changes later.
        return hash(repr(self._reader.values(self._config.set, user, None, session))) or 1


class _Call:
    """A function of the app, by name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._function: Any = None

    def __call__(self, request: Any) -> Any:
        if self._function is None:
            import functools
            import importlib

            module, _, path = self._name.partition(":")
            self._function = functools.reduce(getattr, path.split("."), cast("Any", importlib.import_module(module)))
        return self._function(request)


def _remember(kept: dict[Any, Any], key: Hashable, value: object) -> None:
    """Keeps the newest; safe in any thread (single operations on a dict)."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > _KEPT:
        with suppress(KeyError, RuntimeError, StopIteration):  # another thread did so meanwhile
            del kept[next(iter(kept))]


def people_of(runtime: Runtime) -> People:
    """The people of a process, shared by its frameworks.

    Raises:
        RulesError: The section `users:` is wrong.
    """
    # On the bridge itself, so that it lives as long: as the edge of the lane does.
    kept = vars(runtime.bridge)
    found = kept.get(_PEOPLE)
    if found is None:
        from otel_posthog.config.browser import browser_target

        settings = runtime.settings
        # In collector mode the process knows of no key but the one that its pages may have.
        page = browser_target(settings)[0]
        found = kept.setdefault(
            _PEOPLE,
            People(
                load_users(settings.rules),
                trusted=settings.identity.headers,
                project_key=page.token if page is not None else _key(settings),
                guard=runtime.guard,
            ),
        )
    return cast("People", found)


def _key(settings: Settings) -> str:
    """The project's key of direct mode, where pages have none; "" in collector mode."""
    lane = settings.lane
    return lane.token.reveal() if lane is not None and lane.mode is Mode.DIRECT else ""
