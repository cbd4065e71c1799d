"""`otel-posthog gateway` that kills itself at a named point of its work with the disk: `KILL_AT=sync:17`.

    write     before the 17th write of records         synced    after the 17th sync, before anybody is told
    sync      before the 17th sync of records          cursor    before the 17th move of the cursor

Only the system's files are wrapped; everything else is the command itself.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from otel_posthog.delivery.spool_files import OsFiles


def arm(point: str, count: int) -> None:
    """Wraps the operation that `point` names."""
    seen = 0

    def hit(found: str) -> None:
        nonlocal seen
        if found == point:
            seen += 1
            if seen == count:
                os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(operation: Callable[..., Any], before: str, after: str) -> Callable[..., Any]:
        def call(self: OsFiles, *args: Any) -> Any:
            # The dead letters' and other folders are not what acknowledgements wait for.
            if before != "cursor" or str(args[0]).endswith("/cursor"):
                hit(before)
            result = operation(self, *args)
            hit(after)
            return result

        return call

    OsFiles.append = wrapped(OsFiles.append, "write", "")  # type: ignore[method-assign]
    OsFiles.sync = wrapped(OsFiles.sync, "sync", "synced")  # type: ignore[method-assign]
    OsFiles.write_small = wrapped(OsFiles.write_small, "cursor", "")  # type: ignore[method-assign]


if __name__ == "__main__":
    where, _, number = os.environ.get("KILL_AT", "").partition(":")
    if where:
        arm(where, int(number))
    from otel_posthog.cli.main import main

    sys.exit(main(["gateway", *sys.argv[1:]]))
