"""The system's clock behind the injected `Clock`."""

from __future__ import annotations

import time


class SystemClock:
    """Wall time and monotonic time of this machine."""

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()
