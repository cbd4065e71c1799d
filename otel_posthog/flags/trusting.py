"""`Trusting`: questions about flags with the certificates of the lane, where both lead to the same host.

The SDK has two sessions of `requests` for a whole process, and no setting for what they trust. So an adapter is mounted
on them for that one host, which passes everything on to the SDK's own with the lane's files in place. Other hosts are
as they were; other clients of this host meet the same server, and need the same files. See docs/decisions/0151.
"""

from __future__ import annotations

from typing import Any

from requests.adapters import BaseAdapter

from otel_posthog.config.flags import FlagsTarget


class _WithFiles(BaseAdapter):
    """The SDK's adapter, with files.

    Args:
        inner: The SDK's.
        target: Whose files.
    """

    def __init__(self, inner: Any, target: FlagsTarget) -> None:
        super().__init__()
        self.target = target
        self._inner = inner

    def send(
        self,
        request: Any,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Any:
        target = self.target
        if target.client_cert:
            cert = (target.client_cert, target.client_key) if target.client_key else target.client_cert
        return self._inner.send(
            request, stream=stream, timeout=timeout, verify=target.ca_file or verify, cert=cert, proxies=proxies
        )

    def close(self) -> None:
        self._inner.close()


class Trusting:
    """Sees to it that the SDK's sessions speak to one host with certain files.

    Args:
        target: The host, and the files.
    """

    def __init__(self, target: FlagsTarget) -> None:
        self._target = target
        self._prefix = f"{target.host}/"

    def ensure(self) -> None:
        """Before each request: the SDK makes its sessions anew after a fork, and when socket options are set."""
        for session in _sessions():
            mounted: Any = session.adapters.get(self._prefix)
            if not isinstance(mounted, _WithFiles) or mounted.target != self._target:
                inner = mounted._inner if isinstance(mounted, _WithFiles) else session.get_adapter(self._prefix)
                session.mount(self._prefix, _WithFiles(inner, self._target))

    def undo(self) -> None:
        """The sessions are what they were."""
        for session in _sessions():
            mounted: Any = session.adapters.get(self._prefix)
            if isinstance(mounted, _WithFiles) and mounted.target == self._target:
                del session.adapters[self._prefix]


def _sessions() -> list[Any]:
    from posthog import request

    # In another version that has no such names `requests` alone decides what is trusted.
    return [found for name in ("_session", "_flags_session") if (found := getattr(request, name, None)) is not None]


__all__ = ["Trusting"]
