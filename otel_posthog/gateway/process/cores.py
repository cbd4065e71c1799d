"""How many cores this process may use: what the scheduler lets it run on, and what its container's quota pays for."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = "/sys/fs/cgroup"


def usable_cores(cgroup: str = CGROUP) -> int:
    """Cores for `--workers auto`; at least 1.

    A container with a quota of one CPU on a machine with 64 cores would otherwise get 64 workers, which the kernel
    stops nearly all the time.

    Args:
        cgroup: Where the control groups are mounted.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    found = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota = _quota(Path(cgroup))
    return max(1, found if quota is None else min(found, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """CPUs that the control group may use at a time; `None` for no limit."""
    try:
        # Version 2: "max 100000", or "150000 100000" (microseconds of CPU in each period).
        allowed, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            allowed = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        quota = int(allowed) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return quota if quota > 0 else None
