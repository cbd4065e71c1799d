"""What follows from a user, a login and a logout, in whichever framework they were seen.

- A login, or a signup: the request, and what was captured in it before, is this person's; their mapped properties are
  set; the anonymous id that the browser had becomes theirs (`$identify`).
- A user in a later request: the request is this person's. Nothing is sent, unless a mapped property changed.
- A logout: the rest of the request is nobody's.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Final, cast

from otel_posthog import assembly
from otel_posthog.api.groups import group
from otel_posthog.api.people import identify, reset
from otel_posthog.api.values import id_value
from otel_posthog.assembly import Runtime
from otel_posthog.config.settings import Mode, Settings
from otel_posthog.context.ambient import Ambient
from otel_posthog.instrumentation import browser
from otel_posthog.instrumentation.signups import sign_up
from otel_posthog.instrumentation.sources import USUAL, Sources
from otel_posthog.instrumentation.user import Login, UserReader, is_known, is_scalar
from otel_posthog.instrumentation.visit import Visit
from otel_posthog.observe.guard import Guard, logger
from otel_posthog.rules.load import load_users
from otel_posthog.rules.users import UsersConfig

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
        self._properties: dict[str, int] = {}
        self._merged: dict[str, str] = {}
        self.use(config, trusted=trusted, project_key=project_key)

    def use(self, config: UsersConfig, *, trusted: bool, project_key: str) -> None:
        """Goes on by another configuration; who has been seen and merged stays known.

        Args:
            config: As for the class.
            trusted: As for the class.
            project_key: As for the class.
        """
        self._trusted = trusted
        self._project_key = project_key
        self.sources = Sources(
            () if config.stands_back else USUAL if config.sources is None else config.sources,
        )
        """Where users are, beside what login packages tell."""
        # In one step: half of one configuration and half of another could name somebody in a third way.
        self.reader = UserReader(config)
        """How users are read now; another one after each load of the rules."""
        if config.stands_back:
            logger.info(_STANDS_BACK)

    @property
    def by_own_id(self) -> bool:
        """Whether people are who their framework's own ids say: then an id alone will do."""
        return self.reader.config.distinct_id is None

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
        reader = self.reader
        person = self._person(reader, user, session, sure=True)
        if not person:
            return
        login = login._replace(at=login.at or datetime.now(timezone.utc))
        values = reader.values(reader.config.set, user, login, session)
        once = reader.values(reader.config.set_once, user, login, session)
        # Of a bare id nothing is known yet: it is set when the user is loaded.
        whole = not is_scalar(user) or not reader.maps
        _remember(self._properties, person, _digest(reader, user, session) if whole else _PENDING)
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
        _group(reader, visit, user, session)

    def answered(self, visit: Visit, status: int, framework: str, session: Mapping[str, Any] | None = None) -> None:
        """A request is answered: whoever signed up in it is identified, where that is sure.

        Args:
            visit: The request.
            status: Of the answer.
            framework: Which answers.
            session: The session, where it is open.
        """
        found = sign_up(visit, status, framework) if visit.accounts else None
        if found is not None and self.reader.config.signups:
            self.logged_in(visit, found.user, found.login, session)

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
        reader = self.reader
        person = self._person(reader, user, session, sure=not (reader.config.sources is None and silent))
        if not person:
            return
        if silent and (person not in self._properties or self._merging(visit, person)):
            self.logged_in(visit, user, Login(), session)
            return
        changed, once = self._changed(reader, person, user, session)
        if changed or once or visit.ambient.distinct_id != person:
            if visit.ambient.anonymous_id:
                visit.change(anonymous_id="")
            identify(person, changed or None, once or None)
        _group(reader, visit, user, session)

    def returned(self, visit: Visit, person: str, session: Mapping[str, Any] | None = None) -> None:
        """A request is this person's, of whom no user object was loaded.

        Args:
            visit: The request.
            person: Who they were found to be when they were loaded before.
            session: The session, where it is open.
        """
        if visit.ambient.distinct_id != person:
            visit.change(anonymous_id="")
            identify(person)
        _group(self.reader, visit, None, session)

    def logged_out(self, visit: Visit | None) -> None:
        """Whoever was logged in is not any more."""
        if visit is not None:
            visit.browser_id = ""
            visit.user = None
            reset()

    def _person(self, reader: UserReader, user: Any, session: Mapping[str, Any] | None, *, sure: bool) -> str:
        if reader.config.stands_back or (is_scalar(user) and not sure):
            return ""
        person = reader.person(user, session)
        if not person:
            self.guard.misused("user_id", _NO_ID, type(user).__name__)
        return person

    def _changed(
        self, reader: UserReader, person: str, user: Any, session: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Properties to set, and to set once, of somebody who is not just logging in."""
        if is_scalar(user) or not reader.maps:
            return {}, {}
        digest = _digest(reader, user, session)
        before = self._properties.get(person)
        if before == digest:
            return {}, {}
        _remember(self._properties, person, digest)
        if before is None:
            return {}, {}  # not seen before in this process: nobody knows whether anything changed
        values = reader.values(reader.config.set, user, None, session)
        return values, reader.values(reader.config.set_once, user, None, session) if before == _PENDING else {}

    def _merging(self, visit: Visit, person: str) -> str:
        """The anonymous id that becomes `person`'s, "" where there is none, or it is somebody's already."""
        anonymous = visit.browser_id
        taken = anonymous == person or anonymous in self._properties or anonymous in self._merged
        return "" if taken else anonymous


def _group(reader: UserReader, visit: Visit, user: Any, session: Mapping[str, Any] | None) -> None:
    if not reader.config.groups:
        return
    for name, key in reader.values(reader.config.groups, user, None, session).items():
        text = id_value(key)
        if text is not None and visit.ambient.groups.get(name) != str(text):
            group(name, str(text))


def _digest(reader: UserReader, user: Any, session: Mapping[str, Any] | None) -> int:
    # What a login says is no property that changes later.
    return hash(repr(reader.values(reader.config.set, user, None, session))) or 1


def _remember(kept: dict[Any, Any], key: Hashable, value: object) -> None:
    """Keeps the newest; safe in any thread (single operations on a dict)."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > _KEPT:
        with suppress(KeyError, RuntimeError, StopIteration):  # another thread did so meanwhile
            del kept[next(iter(kept))]


def people_of(runtime: Runtime) -> People:
    """The people of a process, shared by its frameworks; they follow reloads.

    Raises:
        RulesError: The section `users:` is wrong.
    """
    # On the bridge itself, so that it lives as long: as the edge of the lane does.
    kept = vars(runtime.bridge)
    found = kept.get(_PEOPLE)
    if found is None:
        made = People(guard=runtime.guard, **_configured(runtime.settings))
        found = kept.setdefault(_PEOPLE, made)
        if found is made:
            runtime.bridge.on_replaced(lambda: _follow(made))
    return cast("People", found)


def _follow(people: People) -> None:
    """The rules have been loaded anew."""
    runtime = assembly.current()
    if runtime is None:
        return
    try:
        people.use(**_configured(runtime.settings))
    except Exception as error:  # noqa: BLE001 - the file was changed once more: the next reload says what is wrong
        people.guard.failed("instrumentation.people", error)


def _configured(settings: Settings) -> dict[str, Any]:
    """What `People` takes."""
    from otel_posthog.config.browser import browser_target

    # In collector mode the process knows of no key but the one that its pages may have.
    page = browser_target(settings)[0]
    return {
        "config": load_users(settings.rules),
        "trusted": settings.identity.headers,
        "project_key": page.token if page is not None else _key(settings),
    }


def _key(settings: Settings) -> str:
    """The project's key of direct mode, where pages have none; "" in collector mode."""
    lane = settings.lane
    return lane.token.reveal() if lane is not None and lane.mode is Mode.DIRECT else ""
