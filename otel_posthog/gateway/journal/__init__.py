"""The gateway's journal: what was acknowledged, on disk until each of its events has its end.

    record       one request (or one event of a replay) as bytes, with a version
    journal      the disk's own thread: group commit, acknowledgements, reading back, adopting
    single_item  one item of a request as a request of its own, for dead letters

The log itself is `delivery.spool` and `delivery.segment_log`, the same as in process.
"""
