"""`$browser`, `$os` and `$device_type` from a user-agent string, spelled as posthog-js spells them.

Recognising is the work of the kept-up `ua-parser` library; here its names are only put into PostHog's words, so that
events from the browser and from the server fall into one bar of a chart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from otel_posthog.model import JsonValue

if TYPE_CHECKING:
    from ua_parser import Result

MAX_USER_AGENT: Final = 1_000
"""Characters; longer ones are attacks, and every regex of the library runs over it."""

_CACHE_SIZE: Final = 1_024

_BROWSERS: Final = {
    "Android": "Android Mobile",
    "Chrome Mobile": "Chrome",
    "Chrome Mobile iOS": "Chrome iOS",
    "Chrome Mobile WebView": "Chrome",
    "Edge": "Microsoft Edge",
    "Edge Mobile": "Microsoft Edge",
    "Facebook": "Facebook Mobile",
    "Firefox Mobile": "Firefox",
    "Firefox iOS": "Firefox iOS",
    "IE": "Internet Explorer",
    "IE Mobile": "Internet Explorer Mobile",
    "Mobile Safari UI/WKWebView": "Mobile Safari",
    "Opera Mobile": "Opera",
}
_LINUXES: Final = frozenset(
    {
        "Arch Linux", "CentOS", "Debian", "Fedora", "Gentoo", "Linux Mint", "Mageia", "Mandriva", "Red Hat", "SUSE",
        "Slackware", "Ubuntu", "openSUSE",
    }
)  # fmt: skip
_MOBILE: Final = frozenset({"iOS", "Windows Phone", "BlackBerry OS", "Firefox OS", "KaiOS", "Symbian OS", "BlackBerry"})
_CONSOLES: Final = ("Xbox", "PlayStation", "Nintendo")
_TABLETS: Final = ("iPad", "Tablet", "Kindle", "Kobo", "PlayBook")

Parser = Callable[[str], "Result"]


class UserAgents:
    """Reads user-agent strings; remembers the newest `_CACHE_SIZE` of them.

    The library and its matchers (tens of milliseconds) are loaded with the first string, not before: a process that
    never sees one never pays for them.
    """

    def __init__(self) -> None:
        self._parse: Parser | None = None
        self.read = lru_cache(maxsize=_CACHE_SIZE)(self._read)

    def _read(self, user_agent: str) -> Mapping[str, JsonValue]:
        parse = self._parse
        if parse is None:
            self._parse = parse = _load()
        return describe(user_agent, parse(user_agent))


def warm_user_agents() -> None:
    """Makes the library's matchers now, a tenth of a second; they are the same for every `UserAgents` of a process.

    For a server, which otherwise would make its first events wait for them.
    """
    # What no matcher knows, every one of them is asked about.
    UserAgents().read("-")


def _load() -> Parser:
    import ua_parser

    # Without the library's own cache: ours holds the finished answer.
    return ua_parser.Parser(ua_parser.BestAvailableResolver(ua_parser.load_lazy_builtins())).parse


def describe(user_agent: str, result: Result) -> dict[str, JsonValue]:
    """The properties for one parsed string; what was not recognised is left out.

    Without an operating system (a bot, curl, an HTTP library) there is no device type either: calling those a desktop
    would make people of them.
    """
    properties: dict[str, JsonValue] = {}
    browser, system, device = result.user_agent, result.os, result.device
    if browser is not None and browser.family != "Other":
        properties["$browser"] = _BROWSERS.get(browser.family, browser.family)
        if browser.major:
            properties["$browser_version"] = f"{browser.major}.{browser.minor}" if browser.minor else browser.major
    if system is not None and system.family != "Other":
        family = "Linux" if system.family in _LINUXES else system.family
        properties["$os"] = family
        version = ".".join(part for part in (system.major, system.minor, system.patch) if part)
        if version and family != "Linux":
            properties["$os_version"] = version
        if device is None or device.family != "Spider":
            properties["$device_type"] = _device_type(user_agent, family)
    return properties


def _device_type(user_agent: str, system: str) -> str:
    if any(name in user_agent for name in _CONSOLES):
        return "Console"
    if system == "watchOS" or "Watch OS" in user_agent:
        return "Wearable"
    if any(name in user_agent for name in _TABLETS) and "Tablet PC" not in user_agent:
        return "Tablet"
    if system == "Android":
        # Google's rule for its partners: phones say "Mobile", tablets do not.
        return "Mobile" if "Mobile" in user_agent else "Tablet"
    return "Mobile" if system in _MOBILE or "Mobile" in user_agent else "Desktop"
