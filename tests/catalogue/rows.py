"""The catalogue of faults on the way from a Collector to PostHog: what happens, and what must come of it.

Tests carry the number of their row (`@pytest.mark.row(12)`); `write.py` makes `docs/catalogue.md` from both, and a test
fails where a row has neither a test nor a reason.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Row(NamedTuple):
    """One row: what is done to the system, and the outcome that is promised."""

    number: int
    test: str
    expected: str


ROWS: Final = (
    Row(
        1,
        "PostHog answers 503 for 10 min, then recovers",
        "spool grows, acks continue; all delivered; no client error",
    ),
    Row(
        2,
        "PostHog 503 in stateless mode",
        "gateway answers 503/UNAVAILABLE + RetryInfo ≤ 30 s; Collector re-sends; zero loss",
    ),
    Row(
        3,
        "PostHog 429 with `Retry-After: 7`, then HTTP-date, then `garbage`, then `86400`, then negative",
        "waits as told / back-off / clamps to 30 s; never busy-loops",
    ),
    Row(
        4,
        "PostHog 401/403 (key revoked) for 5 min, then fixed",
        "data kept; readiness red; nothing sent to callers as 401; all delivered after",
    ),
    Row(
        5,
        "PostHog 413 on a batch",
        "halved recursively; only the single oversize event is dead-lettered",
    ),
    Row(
        6,
        "PostHog 400 caused by one event in 100",
        "bisected; 99 delivered, 1 dead-lettered with reason",
    ),
    Row(
        7,
        "PostHog accepts the body, then resets before the answer",
        "re-sent with the same uuids and timestamps; oracle sees ≤ 1 distinct id",
    ),
    Row(
        8,
        "PostHog hangs (accepts, never answers); trickles 1 byte/s; sends 1 GiB response",
        "timeouts hold; response read is bounded; other batches proceed",
    ),
    Row(
        9,
        "PostHog 200 with HTML body / V1 map missing uuids / unknown verdict / mixed `ok,drop,retry`",
        "no crash; only `retry` re-sent; drops counted; unreadable success not looped",
    ),
    Row(
        10,
        "PostHog redirects 301/302/307/308 to another host",
        "not followed; key not leaked; treated as a configuration error, data kept",
    ),
    Row(
        11,
        "DNS NXDOMAIN, connection refused, TLS expired/wrong host, blackholed address",
        "back-off; flat CPU, threads, sockets, log lines over 10 min",
    ),
    Row(
        12,
        "`kill -9` gateway at random points, 200 times, under 2 k spans/s",
        "every acked id delivered after restart; start-up < 5 s with 1 GiB spool",
    ),
    Row(
        13,
        "Power-loss model: drop all unsynced writes (fault-injecting file layer) after each step",
        "no acked record missing; recovery never crash-loops",
    ),
    Row(
        14,
        (
            "Spool tail truncated at every byte offset; one bit flipped in the middle; segment deleted; "
            "cursor file missing/ahead/garbage"
        ),
        "starts; loses at most the damaged record, counted; never re-reads for ever",
    ),
    Row(
        15,
        "Disk full (ENOSPC), EIO on fsync, read-only remount, inode exhaustion",
        "stops acking with 503; recovers without restart when space returns; nothing acked is lost",
    ),
    Row(
        16,
        "Spool cap reached with sender still pushing",
        "503 + Retry-After; oldest kept; Collector queue holds; zero loss",
    ),
    Row(
        17,
        "Two gateway processes on one spool directory",
        "second refuses to start with a clear message",
    ),
    Row(
        18,
        "SIGTERM under load with slow PostHog",
        (
            "stops accepting (unready first), drains within the bound, exits 0, rest stays spooled; second "
            "SIGTERM exits at once"
        ),
    ),
    Row(
        19,
        "Rolling restart of two gateways behind a Collector, 10 k spans/s",
        "zero loss; duplicates share uuids",
    ),
    Row(
        20,
        "Collector killed -9 with `file_storage` + fsync; then with fsync off",
        "first: zero loss; second documented as unsafe",
    ),
    Row(
        21,
        "Collector queue full, `block_on_overflow` on/off; `memory_limiter` tripped",
        "back-pressure reaches the sender; loss only where the sender does not retry, and is counted",
    ),
    Row(
        22,
        "Collector outage longer than `max_elapsed_time` (short value) vs 0",
        "reproduces the known loss; our shipped config (0) loses nothing",
    ),
    Row(
        23,
        "Tail sampling 1 % with product spans mixed in, Collector crash in `decision_wait`",
        "product spans unaffected (own pipeline)",
    ),
    Row(
        24,
        "Loadbalancing to 3 gateways, one dies and returns",
        "replay duplicates collapse by uuid; zero loss",
    ),
    Row(
        25,
        "10 k spans/s × 100 per batch, 60 s, gzip, gRPC then HTTP, two cores",
        "zero loss; p99 ack < 250 ms; RSS < 300 MiB; figures recorded",
    ),
    Row(
        26,
        "Soak: 1 k spans/s for 60 min with a fault every 2 min",
        "invariants hold; RSS slope ≈ 0; fds and threads flat",
    ),
    Row(
        27,
        "Burst 100× for 5 s; 500 concurrent connections; 1 000 idle connections",
        "bounded memory; refused with retryable codes; recovers",
    ),
    Row(
        28,
        ("64 MiB message exactly at, 1 byte over the limit (gRPC, HTTP, gzip, chunked, false Content-Length)"),
        "at: accepted; over: 413 / RESOURCE_EXHAUSTED, memory bounded, neighbours unharmed",
    ),
    Row(
        29,
        (
            "gzip bomb 1000:1; 1 GiB zeros; nested gzip; 100 000 empty members; truncated gzip; trailing "
            "junk; wrong encoding label; `zstd`/`br`"
        ),
        "bounded memory and CPU; 413/400/415; no event-loop stall > 100 ms",
    ),
    Row(
        30,
        "One span with invalid UTF-8 (name, key, value, in each level) among 99 good",
        "99 delivered; repaired with U+FFFD or rejected 1; `partial_success` exact; over gRPC too",
    ),
    Row(
        31,
        "AnyValue nested 10 / 50 / 1 000 / 100 000 deep, protobuf and JSON",
        "cut or rejected per item; no RecursionError, no batch loss",
    ),
    Row(
        32,
        (
            "Span with 10 000 attributes; 1 MiB value; 1 MiB key; 5 000 events/links; empty and duplicate "
            "keys; kvlist with repeated keys"
        ),
        "limits applied and counted; event < PostHog limit; rest of batch intact",
    ),
    Row(
        33,
        (
            'JSON: hex ids in both cases, base64 ids, int64 as string/number/1e3/"abc", enum names, unknown '
            "fields, snake_case, `null` everywhere, NaN/Infinity, lone surrogates, duplicate keys, BOM, "
            "empty body, `[]`, deep nesting"
        ),
        ("per the table in 1.2; same events as the protobuf twin for valid input; 400 + JSON Status otherwise"),
    ),
    Row(
        34,
        (
            "Ids of 0, 15, 17 bytes and all-zero; timestamps 0, 2⁶³, end < start, year 1970/2262/+24 h; "
            "negative durations"
        ),
        "span kept with a documented fallback; uuid still deterministic; no overflow",
    ),
    Row(
        35,
        ("Random bytes, mutated valid payloads, swapped content type, signal sent to the wrong path (fuzz 10 min)"),
        "only 2xx/400/404/405/415; no 5xx, no crash, no growth",
    ),
    Row(
        36,
        "Empty request, empty envelopes, unknown future fields",
        "200/OK, `partial_success` unset, no events",
    ),
    Row(
        37,
        ("Handler bug: exception injected at each stage (auth, inflate, parse, map, spool, send), both transports"),
        "UNAVAILABLE/503 — never UNKNOWN/INTERNAL/500 — until acked; Collector re-sends; zero loss",
    ),
    Row(
        38,
        (
            "Slowloris headers, body at 1 B/s, half-open sockets, HTTP/2 stream floods, rapid reset, ping "
            "flood, oversized headers"
        ),
        "closed by deadline; honest clients unaffected",
    ),
    Row(
        39,
        (
            "Auth: missing, wrong, expired, near-miss token, duplicate header, CR/LF in token, rotation "
            "under load, mTLS without/with wrong certificate"
        ),
        "401/403 or handshake failure before inflate/parse; no token in any log; rotation loses nothing",
    ),
    Row(
        40,
        (
            "SSRF: host/key/tenant taken from attributes, resource, baggage, header; metadata address; "
            "`file://`; user-info in URL"
        ),
        "ignored or refused at start-up; no connection made",
    ),
    Row(
        41,
        (
            "Secret and PII canaries through every path: debug log, traceback, error body, metrics, spool, "
            "dead letter, config dump"
        ),
        "canary found only where allowed; `$`-keys not mangled by scrubbing",
    ),
    Row(
        42,
        "Log/terminal forging: newlines, ANSI, NUL, RTL marks in names and attributes",
        "one escaped log line each",
    ),
    Row(
        43,
        "In-process: PostHog and gateway both down, 10 k spans/s for 5 min",
        "app latency within 1 %; no exception; RSS bounded; drops counted and reported once per interval",
    ),
    Row(
        44,
        (
            "In-process: fork (plain, gunicorn preload, celery prefork, multiprocessing) with each lock held"
            " at fork; 1 000 forks"
        ),
        "no deadlock; child sends its own items only, once; parent unaffected",
    ),
    Row(
        45,
        (
            "In-process: exit paths — normal, `sys.exit`, unhandled exception, SIGTERM, `os._exit` after "
            "`flush()`, daemon threads, atexit with backend down, capture *during* atexit"
        ),
        "bounded (default ≤ 5 s); flushed when the backend is up; never hangs",
    ),
    Row(
        46,
        (
            "In-process: exporter raises / returns FAILURE / hangs; callback raises or re-enters; "
            "`force_flush` and `shutdown` concurrently, twice, from a callback"
        ),
        "no deadlock, no exception out, idempotent",
    ),
    Row(
        47,
        (
            "In-process: hostile values — objects whose `__str__`/`__len__` raises, cycles, NaN, Decimal, "
            "datetime, bytes, huge ints, lone surrogates, mutated after capture"
        ),
        "item repaired or dropped alone; batch goes out",
    ),
    Row(
        48,
        "gevent/asyncio/uvloop apps; sub-interpreters; free-threaded build",
        "no block of the loop > 5 ms; no lost wake-ups",
    ),
    Row(
        49,
        "Clock jumps ±1 h during back-off; suspend/resume; NTP step",
        "monotonic timers; no storm, no starvation; event times unchanged",
    ),
    Row(
        50,
        "Upgrade and downgrade with a full spool (format N ↔ N+1)",
        "old spool readable; unknown version refused, not deleted",
    ),
    Row(
        51,
        "`otelcol validate` + start with every shipped YAML; official Python, JS and Go SDKs as clients",
        "valid; events arrive from each",
    ),
    Row(
        52,
        ("Container: read-only root, random uid, no capabilities, 128 MiB limit, spool volume removed at run time"),
        "starts as non-root; fails loudly and retryably",
    ),
    Row(
        53,
        (
            "Counting audit: after each test above compare client-sent, gateway "
            "accepted/rejected/spooled/sent/dead-lettered, emulator received"
        ),
        "the books balance exactly",
    ),
)

BEYOND: Final[dict[int, str]] = {
    1: "ten minutes: the pauses between attempts are short in the tests. An hour with faults is soak (row 26).",
    4: "five minutes: as in row 1.",
    11: "a name server's own NXDOMAIN: a resolver that is put into the gateway's process says it, since the real one "
    "would ask the network. Ten minutes: some dozens of attempts with short pauses take their place.",
    19: "10 k spans/s: 10,000 spans as fast as Collector and gateways take them on the machine.",
    29: "the 100 ms: they depend on the machine. A test counts the turns that others get while 30 MiB of OTLP/JSON are "
    "read; measured for 45 MiB on a busy machine: 81 ms without one at the most, 2,950 ms by `json.loads`. Where every "
    "item of so large a request is wanted, Python's garbage collector takes longer pauses of its own.",
    44: "celery's own workers, `multiprocessing`, and a thousand forks: there are forty, with threads that submit all "
    "the while, and gunicorn with and without `--preload`.",
    48: "the 5 ms: gaps are measured and printed by the tests, not asserted, since a busy machine makes its own, and "
    "the first event under gevent costs the hub one gap of about 25 ms (late imports). CPython 3.11 refuses "
    "threads in isolated sub-interpreters (`thread is not supported for isolated subinterpreters`), so nothing can "
    "deliver there; in legacy ones all modules import, which no test shows. No free-threaded build is among the "
    "interpreters that the tests run on. A clean end of the interpreter where gevent patched after our threads had "
    "started: a plain waiting thread hangs or crashes it without us, too.",
    49: "a machine that really sleeps, and a stepped system clock: both would be the whole machine's. Injected clocks "
    "jump instead; Linux's monotonic clock stands still in a sleep, so there nothing but the wall clock jumps.",
}
"""What of a row no test here can show, and why."""
