"""The `posthog` package: what it would send travels our way, once, with its uuid, its time and all that it says.

The SDK does everything that it does without us: arguments, contexts, super properties, `before_send`, flags. Only the
last step is ours: where a finished event would enter the SDK's queue, the record enters our lane, and its uuid is
returned as before. Where our lane does not take it, the SDK goes on as if we were not there: never both, never neither
(docs/decisions/0126).

Left to the SDK are clients of another project or host, historical imports, and the AI lane (`capture_ai`).
"""

from __future__ import annotations

import copy
import functools
import math
import sys
import time
import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import date, datetime
from typing import Any, ClassVar, Final, cast
from urllib.parse import urlsplit

from otel_posthog import assembly
from otel_posthog.api.process import process
from otel_posthog.config.settings import Mode
from otel_posthog.instrumentation.on_import import Hook, OnImport
from otel_posthog.instrumentation.patches import Wrapper
from otel_posthog.semconv import posthog

_PATIENCE: Final = 10.0
"""Seconds that `shutdown()` and `join()` wait for our lane; `flush()` of the SDK has the same default."""
_NO_LIMIT: Final = 600.0
"""Seconds, for `flush(None)`."""
_OLDEST: Final = 7
"""The oldest major version whose events are taken over."""
_PORTS: Final = {"http": 80, "https": 443}
_TOP_LEVEL: Final = (posthog.PERSON_SET, posthog.PERSON_SET_ONCE)

# The uuid of what was taken while `capture_immediate` waits for it.
_immediate: Final[ContextVar[list[str] | None]] = ContextVar("otel_posthog_immediate", default=None)


# While an asynchronous client without a key makes and passes on an event.
_capturing: Final[ContextVar[bool]] = ContextVar("otel_posthog_capturing", default=False)


class _NoKey:
    """Stands for `True` in `Client.disabled`, where nothing but the missing key is why.

    It is false to the parts of an asynchronous client that make events: that one has a queue and tasks of its own, of
    which there cannot be a copy that is switched on, and asks for flags at the same time, which needs a key.
    """

    def __bool__(self) -> bool:
        return not _capturing.get()

    def __repr__(self) -> str:
        return "True"


NO_KEY: Final = _NoKey()


class PostHogSdkInstrumentor(OnImport):
    """Takes over what clients of the `posthog` package have to send."""

    place: ClassVar[str] = "posthog_sdk"

    def set_up(self) -> None:
        """Nothing has been taken over yet."""
        self._keyless_ones: weakref.WeakSet[Any] = weakref.WeakSet()
        self._relayed = False
        self._submits = True
        self._package: Any = None
        self._project: str | None = None

    def modules(self) -> Mapping[str, Hook]:
        """The two clients, and the package with the settings of its own client."""
        return {"posthog.client": self._client, "posthog.async_client": self._async, "posthog": self._settings}

    def _settings(self, module: Any) -> None:
        self._package = module

    def _client(self, module: Any) -> None:
        client = module.Client
        if int(str(getattr(module, "VERSION", "0")).partition(".")[0]) < _OLDEST:
            self._left("version", f"it is older than {_OLDEST}.0")
            return
        self._relayed, self._project = False, None
        if self.patches is not None:
            self.patches.on_undo(self._forget_keyless)
        # In older versions one method does it all.
        self._submits = hasattr(client, "_submit_event")
        wrap = self._wrap
        wrap(client, "__init__", self._made)
        wrap(client, "_enqueue", self._enqueue)
        wrap(client, "_submit_event", self._submit)
        wrap(client, "flush", self._flush)
        wrap(client, "join", self._end)
        wrap(client, "shutdown", self._end)

    def _async(self, module: Any) -> None:
        client = module.AsyncClient
        wrap = self._wrap
        wrap(client, "__init__", self._made)
        wrap(client, "_prepare_event", self._as_with_a_key)
        wrap(client, "_ensure_workers_started", self._as_with_a_key)
        for name in ("_validate_transport_available", "_get_http_client"):
            wrap(client, name, self._transport)
        wrap(client, "_process_event", self._process_event)
        wrap(client, "capture_immediate", self._capture_immediate)
        wrap(client, "flush", self._flush_async)
        wrap(client, "join", self._end_async)
        wrap(client, "shutdown", self._end_async)

    def _wrap(self, owner: Any, name: str, wrapper: Wrapper) -> None:
        if self.patches is not None:
            self.patches.wrap(owner, name, wrapper)

    # --- clients without a key ---------------------------------------------------------------------------------------

    def _made(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> None:
        wrapped(*args, **kwargs)
        try:
            if _collector() and client.disabled is True and not client.api_key and not kwargs.get("disabled"):
                client.disabled = NO_KEY
                self._keyless_ones.add(client)
        except Exception as error:  # noqa: BLE001 - an edge: the client is made
            self.failed(error)

    def _keyless(self, client: Any) -> bool:
        """Whether the client has no key, and that is the only reason why it does nothing."""
        if client.api_key or not _collector():
            return False
        if client.disabled is NO_KEY:
            return True
        package = self._package
        # The package sets it anew at each call.
        return package is not None and client is package.default_client and not package.disabled

    def _as_with_a_key(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        if client.disabled is not NO_KEY or process.get() is None:
            return wrapped(*args, **kwargs)
        token = _capturing.set(True)
        try:
            return wrapped(*args, **kwargs)
        finally:
            _capturing.reset(token)

    def _transport(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        # Without a key nothing is sent by it, so no HTTP client has to be installed.
        return None if client.disabled is NO_KEY else wrapped(*args, **kwargs)

    def _forget_keyless(self) -> None:
        for client in tuple(self._keyless_ones):
            if client.disabled is NO_KEY:
                client.disabled = True
        self._keyless_ones.clear()

    # --- one event ---------------------------------------------------------------------------------------------------

    def _enqueue(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        """Clients without a key go on as if they had one; of older versions `before_send` is the last step."""
        keyless = self._keyless(client)
        if (self._submits and not keyless) or process.get() is None:
            return wrapped(*args, **kwargs)
        # Another object with the same state: the app's is used by other threads at the same time.
        stand_in: Any = copy.copy(client)
        if keyless:
            stand_in.disabled = False
        taken: list[str] = []
        if not self._submits:
            stand_in.before_send = functools.partial(self._last_step, client, taken)
        result = wrapped.__func__(stand_in, *args, **kwargs)
        return taken[0] if taken else result

    def _last_step(self, client: Any, taken: list[str], message: Any) -> Any:
        said: Any = client.before_send(message) if client.before_send else message
        if not isinstance(said, dict) or not client.send:
            return cast("Any", said)
        came = self._take(client, cast("dict[str, Any]", said))
        if came is None:
            return None
        if came:
            taken.append(str(said["uuid"]))  # pyright: ignore[reportUnknownArgumentType] - the SDK gave it one
            return None
        return cast("Any", said) if client.api_key else None

    def _submit(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        message: Any = args[0] if args else kwargs.get("msg")
        lane: Any = args[1] if len(args) > 1 else kwargs.get("lane")
        if client.send and lane is client._analytics_lane and not lane._closed:
            came = self._take(client, message)
            if came is None:
                return None
            if came:
                if client.sync_mode:
                    self._deliver(client.timeout)
                return message["uuid"]
        # Without a key there is no other way.
        return wrapped(*args, **kwargs) if client.api_key or not client.send or lane._closed else None

    def _take(self, client: Any, message: dict[str, Any]) -> bool | None:
        """Hands `message` over to our lane. Never raises.

        Returns:
            False where the SDK has to send it; `None` where it has been captured before, and nobody has to.
        """
        emitter = process.get()
        if emitter is None:
            return False
        try:
            if not self._ours(client):
                return False
            from otel_posthog.api.moment import moment_ns
            from otel_posthog.lane.relay import relay
            from otel_posthog.model import CaptureEvent

            if message["event"] == posthog.EVENT_EXCEPTION and not _first_time(message):
                return None
            said = message.get("distinct_id")
            event = CaptureEvent(
                event=str(message["event"]),
                distinct_id="" if said is None else str(said),
                uuid=str(message["uuid"]),
                timestamp_ns=moment_ns(message["timestamp"], time.time_ns(), emitter.edge.guard),
                properties=_properties(message),
            )
            if not relay(event, emitter):
                return False
            self._relayed = True
            return True
        except Exception as error:  # noqa: BLE001 - an edge: the SDK sends it
            self.failed(error)
            return False

    def _ours(self, client: Any) -> bool:
        """Whether the client's events belong to the project that our lane leads to."""
        runtime = assembly.current()
        lane = runtime.settings.lane if runtime is not None else None
        if runtime is None or lane is None:
            return False
        if runtime.keeps_all:
            # In a test nothing is sent, least of all with the key of production.
            return True
        if client.historical_migration:
            return self._left("historical", "a historical import needs PostHog's own door")
        key: str = client.api_key
        if lane.mode is Mode.DIRECT:
            if key != lane.token.reveal():
                return self._left("project", "its key is that of another project than OTEL_EXPORTER_OTLP_TOKEN")
            if _origin(client.host) != _origin(lane.url):
                return self._left("host", "its host is another one than OTEL_EXPORTER_OTLP_ENDPOINT")
            return True
        if not key:
            return True
        # A Collector's token says nothing of the project behind the gateway. One process is one project's: that which
        # its flags belong to, else that of the client which spoke first.
        flags = runtime.settings.flags.token.reveal()
        if self._project is None:
            self._project = key
        if key != (flags or self._project):
            return self._left("project", "its key is that of another project than this process's")
        return True

    def _left(self, subject: str, why: str) -> bool:
        process.complaints.say(
            f"posthog_sdk.{subject}", "otel-posthog: a client of the posthog package sends its events itself: %s", why
        )
        return False

    # --- the end -----------------------------------------------------------------------------------------------------

    def _deliver(self, timeout: float) -> None:
        emitter = process.get() if self._relayed else None
        if emitter is not None:
            try:
                emitter.edge.worker.flush(max(0.0, timeout))
            except Exception as error:  # noqa: BLE001 - an edge: the app goes on
                self.failed(error)

    def _flush(self, wrapped: Any, _client: Any, args: Any, kwargs: Any) -> Any:
        begun = time.monotonic()
        result = wrapped(*args, **kwargs)
        self._deliver(_limit(args, kwargs) - (time.monotonic() - begun))
        return result

    def _end(self, wrapped: Any, _client: Any, args: Any, kwargs: Any) -> Any:
        result = wrapped(*args, **kwargs)
        self._deliver(_PATIENCE)
        return result

    # --- the asynchronous client -------------------------------------------------------------------------------------

    async def _process_event(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        message: Any = await wrapped(*args, **kwargs)
        if message is None or not client.send:
            return message
        came = self._take(client, message)
        if came is False:
            return message if client.api_key else None
        waiting = _immediate.get()
        if came and waiting is not None:
            waiting.append(str(message["uuid"]))
        return None

    async def _capture_immediate(self, wrapped: Any, _client: Any, args: Any, kwargs: Any) -> Any:
        taken: list[str] = []
        token = _immediate.set(taken)
        try:
            result = await wrapped(*args, **kwargs)
        finally:
            _immediate.reset(token)
        if not taken:
            return result
        await self._deliver_aside(_PATIENCE)
        return taken[0]

    async def _flush_async(self, wrapped: Any, client: Any, args: Any, kwargs: Any) -> Any:
        begun = time.monotonic()
        # A coroutine function asks nothing before it is awaited.
        token = _capturing.set(client.disabled is NO_KEY)
        try:
            result = await wrapped(*args, **kwargs)
        finally:
            _capturing.reset(token)
        await self._deliver_aside(_limit(args, kwargs) - (time.monotonic() - begun))
        return result

    async def _end_async(self, wrapped: Any, _client: Any, args: Any, kwargs: Any) -> Any:
        result = await wrapped(*args, **kwargs)
        await self._deliver_aside(_PATIENCE)
        return result

    async def _deliver_aside(self, timeout: float) -> None:
        import asyncio

        if self._relayed:
            await asyncio.to_thread(self._deliver, timeout)


def _first_time(message: Mapping[str, Any]) -> bool:
    """Whether nobody has captured the exception at hand, where `message` tells of that one; marks it.

    `capture_exception()` without an argument neither looks for the mark of what it finds nor sets it. We do so here,
    and not around that call: the stack of an exception that was never raised is the stack of the call, us included.
    """
    from otel_posthog.lane.exceptions import claim, matches

    live = sys.exc_info()[1]
    traceback = live.__traceback__ if live is not None else None
    chain: Any = message["properties"].get("$exception_list")
    if live is None or traceback is None or not isinstance(chain, list) or not chain:
        return True
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    first = cast("dict[str, Any]", chain[0])
    stack = cast("dict[str, Any]", first.get("stacktrace") or {})
    frames = cast("list[dict[str, Any]]", stack.get("frames") or [{}])
    here = (traceback.tb_frame.f_code.co_name, traceback.tb_lineno)
    same = (frames[-1].get("function"), frames[-1].get("lineno")) == here and matches(live, str(first.get("type")), "")
    return not same or claim(live, str(message["uuid"]))


def _collector() -> bool:
    runtime = assembly.current()
    lane = runtime.settings.lane if runtime is not None else None
    return lane is not None and lane.mode is Mode.COLLECTOR


def _limit(args: Any, kwargs: Any) -> float:
    """`timeout_seconds` of a call to `flush`."""
    said = args[0] if args else kwargs.get("timeout_seconds", _PATIENCE)
    return _NO_LIMIT if said is None else float(said)


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url.strip())
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme)


def _properties(message: Mapping[str, Any]) -> dict[str, Any]:
    """The event's properties as the SDK would write them into JSON; `$set` and `$set_once` stand among them."""
    found = cast("dict[str, Any]", _json(message.get("properties") or {}))
    for name in _TOP_LEVEL:
        said = _json(message.get(name))
        if isinstance(said, dict):
            # As the SDK itself does it for capture v1.
            inner = found.get(name)
            found[name] = (
                {**said, **cast("dict[str, Any]", inner)} if isinstance(inner, dict) else found.get(name, said)
            )
    return found


def _json(value: Any) -> Any:
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_name(key): _json(one) for key, one in cast("dict[Any, Any]", value).items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_json(one) for one in cast("list[Any]", value)]
    return value.isoformat() if isinstance(value, (date, datetime)) else value


def _name(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    return "null" if key is None else str(key)
