"""`IntakeConfig`: where the journal is, and what may wait where."""

from __future__ import annotations

from typing import Final, Literal

from otel_posthog.model.frozen import frozen

MIB: Final = 1024 * 1024


@frozen
class IntakeConfig:
    """Settings of the intake, the journal and the processing behind it.

    Args:
        folder: The spool; each worker has a folder of its own in it. May be "" with `forward`: no dead letters then.
        mode: What an `OK` promises: `spool` (durable) or `forward` (each event has PostHog's verdict).
        worker: Number of this worker; its folder is `<folder>/<worker>`.
        workers: How many there are; folders of other names than theirs are adopted when nobody holds them.
        max_bytes: Bytes of this worker's journal; beyond it callers are told to come again.
        dead_letter_bytes: Bytes of this worker's dead letters.
        request_bytes: One request, as it arrives and inflated.
        inflight_bytes: Memory of all requests together that are not answered yet.
        waiting_bytes: Memory of what is durable and waits to be converted; beyond it, it waits on disk.
        commit_bytes: Bytes of one group commit, about.
        commit_linger: Seconds that a group commit waits for company, where the one before had some.
        forward_timeout: Seconds after which a request that is forwarded is answered `RETRY`.
        attempts: How often a record that makes us fail is tried, over all lives, before it becomes a dead letter.
        inline_bytes: Bodies over this many bytes are looked into on a thread of their own: a receiver's event loop must
            not stand still meanwhile.
    """

    folder: str
    mode: Literal["spool", "forward"] = "spool"
    worker: int = 0
    workers: int = 1
    max_bytes: int = 1024 * MIB
    dead_letter_bytes: int = 64 * MIB
    request_bytes: int = 64 * MIB
    inflight_bytes: int = 192 * MIB
    waiting_bytes: int = 32 * MIB
    commit_bytes: int = 4 * MIB
    commit_linger: float = 0.002
    forward_timeout: float = 20.0
    attempts: int = 5
    inline_bytes: int = 128 * 1024
