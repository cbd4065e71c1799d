"""The operator's door: health, metrics and a live view of one gateway process, on a port of its own.

    AdminSources ─► health    /livez, /readyz
                 ─► families ─► exposition   /metrics
                 │           └► self_metrics  OTLP, where asked for
                 └► tail      /tail
    server: HTTP around them, in a thread of its own      aggregate: the same of several workers, as one

Everything here reads; nothing on the way of the data waits for it.
"""
