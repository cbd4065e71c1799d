"""Visitors of an app under test: each with cookies of its own, and maybe with posthog-js."""

from __future__ import annotations

import http.client
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

from tests.attach.processes import Process


class Visitor:
    """A browser.

    Args:
        process: Whose server it visits.
        headers: What it sends along.
    """

    def __init__(self, process: Process, headers: dict[str, str] | None = None) -> None:
        self._process = process
        self._cookies: SimpleCookie = SimpleCookie()
        self.headers = headers or {}

    def get(self, path: str) -> int:
        """Asks for a page; gives the status."""
        return self._request("GET", path)

    def post(self, path: str, **form: str) -> int:
        """Sends a form; gives the status."""
        return self._request("POST", path, form)

    def _request(self, method: str, path: str, form: dict[str, str] | None = None) -> int:
        assert self._process.socket is not None
        connection = http.client.HTTPConnection("127.0.0.1", self._process.socket.getsockname()[1], timeout=60)
        headers: dict[str, Any] = {"Connection": "close", **self.headers}
        if self._cookies:
            headers["Cookie"] = "; ".join(f"{name}={morsel.value}" for name, morsel in self._cookies.items())
        body = None
        if form is not None:
            body = urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            response.read()
            for name, value in response.getheaders():
                if name.lower() == "set-cookie":
                    self._keep(value)
            return response.status
        finally:
            connection.close()

    def _keep(self, value: str) -> None:
        for name, morsel in SimpleCookie(value).items():
            if morsel["max-age"] == "0" or "1970" in morsel["expires"]:
                self._cookies.pop(name, None)
            else:
                self._cookies[name] = morsel.value
