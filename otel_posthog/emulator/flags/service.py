"""The requests of flag clients: evaluation (`/flags`, `/decide`), definitions for local evaluation, remote config.

What each address is for:

    POST /flags/?v=2                           what posthog-js and older SDKs read
    POST /flags/?v=4                           typed records: what the Python SDK reads
    POST /decide/?v=3                          old SDKs; v=1 and v=2 older ones
    GET  /flags/definitions?token=…            definitions, with an ETag
    GET  /api/feature_flag/local_evaluation    the same, its former address
    GET  /api/projects/@current/feature_flags/<key>/remote_config
    GET  /array/<token>/config.js, …/config    what posthog-js loads first
"""

from __future__ import annotations

import hashlib
import json
import uuid as uuids
from collections.abc import Callable, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final, cast

from otel_posthog.emulator import queries
from otel_posthog.emulator.body import read_body
from otel_posthog.emulator.exchange import Answer, Incoming, json_answer
from otel_posthog.emulator.faults import Fault
from otel_posthog.emulator.flags.answers import browser_settings, form_of, records
from otel_posthog.emulator.flags.definitions import definitions, payload_text
from otel_posthog.emulator.flags.model import FlagSet
from otel_posthog.emulator.flags.rules import Outcome, Subject, evaluate
from otel_posthog.emulator.flags.state import FlagState
from otel_posthog.emulator.project_token import fault_of
from otel_posthog.emulator.refusal import Refusal
from otel_posthog.emulator.store import Store

FLAGS_PATH: Final = "/flags"
DECIDE_PATH: Final = "/decide"
DEFINITION_PATHS: Final = ("/flags/definitions", "/api/feature_flag/local_evaluation")
REMOTE_CONFIG_PATH: Final = "/api/projects/{project}/feature_flags/{flag}/remote_config"
BROWSER_CONFIG_PATHS: Final = ("/array/{token}/config", "/array/{token}/config.js")

_MAX_ID_CHARS: Final = 200
_SECRET_PREFIXES: Final = ("phx_", "phs_")
_BROWSERS: Final = ("Mozilla/", "Chrome/", "Safari/", "Firefox/", "Edge/")
_CLIENT_LIBRARIES: Final = ("posthog-android/", "posthog-ios/", "posthog-react-native/", "posthog-flutter/")
_SERVER_LIBRARIES: Final = (
    "posthog-python/", "posthog-ruby/", "posthog-php/", "posthog-java/", "posthog-go/", "posthog-node/",
    "posthog-dotnet/", "posthog-elixir/",
)  # fmt: skip
_BROWSER_HEADERS: Final = ("origin", "referer", "sec-fetch-mode", "sec-fetch-site")


class FlagService:
    """Answers flag clients.

    Args:
        state: The flags.
        store: People and groups, whose properties count, and the counters.
        clock: Server time.
        ceiling: Bytes of a request after decompression.
        recording: posthog-js is told that the project records sessions.
    """

    def __init__(
        self, state: FlagState, store: Store, clock: Callable[[], datetime], ceiling: int, *, recording: bool = False
    ) -> None:
        self._recording = recording
        self._state = state
        self._store = store
        self._clock = clock
        self._ceiling = ceiling

    # --- evaluation ------------------------------------------------------------------------------------------------

    def evaluated(self, request: Incoming, fault: Fault | None = None) -> Answer:
        """Answers `/flags` and `/decide`.

        Raises:
            Refusal: No token, no distinct id, or a body that cannot be read.
        """
        decide = request.path == DECIDE_PATH
        if request.method == "GET":
            body = {
                "flags": {},
                "errorsWhileComputingFlags": False,
                **self._stamp(),
                **browser_settings(has_flags=False, recording=self._recording),
            }
            return json_answer(200, body)
        document = read_body(request.body, request.query, self._ceiling)
        asked = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
        token = _token(_first(asked, "token", "api_key", "$token"))
        distinct_id = _distinct_id(_first(asked, "distinct_id", "$distinct_id"))
        flags = self._state.current()
        self._store.count("flags:evaluations")
        body: dict[str, Any] = {"errorsWhileComputingFlags": False, **self._stamp()}
        outcomes: dict[str, Outcome] = {}
        if fault is not None and fault.action == "quota":
            body["quotaLimited"] = ["feature_flags"]
        elif asked.get("disable_flags") is not True:
            keys = self._keys(flags, asked, request.headers)
            outcomes = evaluate(flags, keys, self._subject(flags, token, distinct_id, asked), self._clock())
        failed = {key for key in outcomes if _fails(fault, key)}
        body["errorsWhileComputingFlags"] = bool(failed)
        form = form_of(request.query.get("v"), decide=decide, config="config" in request.query)
        if decide or request.query.get("config") in {"true", "1"} or not request.query.keys() & {"v", "config"}:
            body |= browser_settings(has_flags=bool(flags.flags), recording=self._recording)
        return json_answer(200, body | records(outcomes, failed, form))

    def _stamp(self) -> dict[str, Any]:
        return {"requestId": str(uuids.uuid4()), "evaluatedAt": int(self._clock().timestamp() * 1000)}

    def _keys(self, flags: FlagSet, asked: Mapping[str, Any], headers: Mapping[str, str]) -> list[str]:
        wanted = _first(asked, "flag_keys_to_evaluate", "flag_keys")
        chosen = cast("list[Any]", wanted) if isinstance(wanted, list) else None
        runtime = _runtime(asked.get("evaluation_runtime"), headers)
        return [
            key
            for key, flag in flags.flags.items()
            if (chosen is None or key in chosen) and (runtime == "all" or flag.evaluation_runtime in {"all", runtime})
        ]

    def _subject(self, flags: FlagSet, token: str, distinct_id: str, asked: Mapping[str, Any]) -> Subject:
        groups = {kind: str(key) for kind, key in _object(asked, "groups").items() if _is_key(key)}
        given = _object(asked, "group_properties")
        kept = [key for key, flag in flags.flags.items() if flag.ensure_experience_continuity]
        said = _first(asked, "anon_distinct_id", "$anon_distinct_id")
        anonymous = said if isinstance(said, str) else ""
        return Subject(
            distinct_id,
            {
                "distinct_id": distinct_id,
                **queries.properties_of(self._store, token, distinct_id),
                **_object(asked, "person_properties"),
            },
            groups,
            {
                kind: {
                    "$group_key": key,
                    **queries.group_properties(self._store, token, kind, key),
                    **_object(given, kind),
                }
                for kind, key in groups.items()
            },
            self._store.hash_keys(token, distinct_id, anonymous, kept) if kept else {},
        )

    # --- definitions -----------------------------------------------------------------------------------------------

    def definitions(self, request: Incoming, fault: Fault | None = None) -> Answer:
        """Answers SDKs that evaluate by themselves.

        Raises:
            Refusal: No project token, or no secret key.
        """
        _token(request.query.get("token"))
        _secret(request.headers)
        if fault is not None and fault.action == "quota":
            raise Refusal(402, "quota_limited", "Your team has exceeded its feature flag quota")
        body = json.dumps(definitions(self._state.current()), ensure_ascii=False).encode()
        headers = {
            "ETag": f'W/"{hashlib.sha256(body).hexdigest()[:16]}"',
            "Cache-Control": "private, must-revalidate",
        }
        # Weak and strong spellings of one tag are the same here.
        if _tag(request.headers.get("if-none-match", "")) == _tag(headers["ETag"]):
            self._store.count("flags:not_modified")
            return Answer(304, b"", headers=headers)
        self._store.count("flags:definitions")
        return Answer(200, body, headers=headers)

    def remote_config(self, request: Incoming) -> Answer:
        """Answers with the payload of one flag, JSON in a JSON string.

        Raises:
            Refusal: No secret key, or no such flag.
        """
        _secret(request.headers)
        self._store.count("flags:remote_config")
        name = request.path.split("/")[-2]
        flags = self._state.current().flags
        found = next((flag for flag in flags.values() if name in (flag.key, str(flag.id))), None)
        if found is None:
            raise Refusal(404, "unknown_flag", "Not found.", detail=f"no flag {name}")
        return json_answer(200, payload_text(found.payloads.get("true")))

    def browser_config(self, request: Incoming) -> Answer:
        """Answers posthog-js, which asks for this before it asks for flags: as a script, then as JSON."""
        config = browser_settings(has_flags=bool(self._state.current().flags), recording=self._recording)
        token, name = request.path.split("/")[-2:]
        if name == "config":
            return json_answer(200, config)
        held = json.dumps({"config": config, "siteApps": []})
        script = f"(window._POSTHOG_REMOTE_CONFIG ??= {{}})[{json.dumps(token)}] = {held};"
        return Answer(200, script.encode(), "text/javascript; charset=utf-8")


# --- what was asked ------------------------------------------------------------------------------------------------


def _first(asked: Mapping[str, Any], *names: str) -> Any:
    return next((asked[name] for name in names if asked.get(name) is not None), None)


def _object(asked: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = asked.get(name)
    if value is None:
        value = asked.get(f"${name}")
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _is_key(key: Any) -> bool:
    return isinstance(key, (str, int, float)) and not isinstance(key, bool) and key != ""


def _token(value: Any) -> str:
    token = value if isinstance(value, str) else ""
    fault = fault_of(token.strip())
    if fault == "empty":
        text = "No API token provided. Please include a valid API token in your request."
        raise Refusal(401, "invalid_token", text, detail=fault)
    if fault:
        text = "The provided API key is invalid or has expired. Please check your API key and try again."
        raise Refusal(401, "invalid_token", text, detail=fault)
    return token.strip()


def _distinct_id(value: Any) -> str:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)[:_MAX_ID_CHARS]
    text = "The distinct_id field is missing from the request. Please include a valid identifier."
    raise Refusal(400, "missing_distinct_id", text)


def _secret(headers: Mapping[str, str]) -> None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise Refusal(401, "no_secret_key", "Authentication credentials were not provided.")
    if not key.startswith(_SECRET_PREFIXES):
        detail = "a personal API key begins with phx_, a project secret key with phs_"
        raise Refusal(401, "invalid_secret_key", "Personal API key found in request Authorization header is invalid.",
                      detail=detail)  # fmt: skip


def _runtime(explicit: Any, headers: Mapping[str, str]) -> str:
    """Whose code asks: `client`, `server`, `all`, or "" where nothing tells."""
    if isinstance(explicit, str):
        return explicit.lower() if explicit.lower() in {"client", "server"} else "all"
    agent = headers.get("user-agent", "")
    if any(part in agent for part in _BROWSERS) or agent.startswith(_CLIENT_LIBRARIES):
        return "client"
    if agent.startswith(_SERVER_LIBRARIES) or "python-requests/" in agent or "curl/" in agent:
        return "server"
    return "client" if any(name in headers for name in _BROWSER_HEADERS) else ""


def _tag(text: str) -> str:
    return text.strip().removeprefix("W/").strip('"')


def _fails(fault: Fault | None, key: str) -> bool:
    return fault is not None and fault.action == "flag_errors" and fnmatchcase(key, fault.flag)
