"""Complete under sampling: spans that are not sampled are still recorded, for our processor alone (DESIGN §5).

The wrapper turns DROP into RECORD_ONLY and leaves everything else as the app's own sampler said it: trace flags, trace
state, and with them every export and every propagated header. Batch and simple span processors skip what is not
sampled, so exporters see what they saw before.

It wraps the sampler *of each tracer*, never `provider.sampler`: EDOT's central configuration and others look for a
sampler of their own type there, and change it while it runs. The inner sampler is asked for every span.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

import wrapt
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import SpanKind

from otel_posthog.context.unrecorded import remembering
from otel_posthog.errors import ConfigError
from otel_posthog.observe.guard import logger
from otel_posthog.semconv import posthog

ALL: Final = "all"
SERVER: Final = "server"
OFF: Final = "off"
MODES: Final = (ALL, SERVER, OFF)

_WRAPPED: Final = "_otel_posthog_records_unsampled"
_SERVER: Final = SpanKind.SERVER
_CONSUMER: Final = SpanKind.CONSUMER
_DROP: Final = Decision.DROP
_RECORD_ONLY: Final = Decision.RECORD_ONLY
_MAX_KEYS: Final = 4_096
"""Keys remembered at the most: keys made of data must not fill the memory."""
_MAX_PROXIES: Final = 10
_KNOWN: Final = (
    "always_on, always_off, parentbased_always_on, parentbased_always_off, traceidratio, parentbased_traceidratio"
)


class RecordOnlySampler(Sampler):
    """Asks `root`, and has recorded what `root` drops.

    Without arguments it is what `OTEL_TRACES_SAMPLER=posthog_record_only` and a declarative configuration make:

        sampler: {posthog_record_only: {ratio: 0.1}}

    Args:
        root: The sampler that decides; `ParentBased` over `ratio` by default.
        ratio: Share of the traces to sample, 0 to 1, where no `root` is given.
        record: `all` spans; `server` for SERVER and CONSUMER spans and those that start with a `posthog.*` attribute;
            `off` for none.
        carrier: `posthog.carrier` for every span; "" for none.

    Raises:
        ConfigError: An argument is out of range.
    """

    def __init__(
        self, root: Sampler | None = None, *, ratio: float = 1.0, record: str = ALL, carrier: str = ""
    ) -> None:
        if record not in MODES:
            raise ConfigError(f"is {record!r}", key="record", hint=f"Use one of {', '.join(MODES)}")
        if root is None:
            if not 0.0 <= ratio <= 1.0:
                raise ConfigError(f"is {ratio!r}", key="ratio", hint="Use a number from 0 to 1")
            root = ParentBased(TraceIdRatioBased(ratio))
        self._root = root
        self._record = record
        self._all = record == ALL
        self._server = record == SERVER
        self._untagged: set[str] = set()
        self._carrier = carrier

    @property
    def root(self) -> Sampler:
        """The sampler that decides."""
        return self._root

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> SamplingResult:
        """What `root` says; RECORD_ONLY with the start attributes where it says DROP."""
        # Asked for every span of the app, most of which it drops: what costs something comes after that.
        result: Any = (
            self._root.should_sample(parent_context, trace_id, name, kind, attributes, links, *args, **kwargs)
            if args or kwargs
            else self._root.should_sample(parent_context, trace_id, name, kind, attributes, links)
        )
        if result.decision is _DROP:
            entrance = kind is _SERVER or kind is _CONSUMER
            if not (self._all or (self._server and (entrance or (attributes and self._tagged(attributes))))):
                state = remembering(result.trace_state, kind, attributes)
                return result if state is result.trace_state else SamplingResult(_DROP, None, state)
            # A sampler that drops gives no attributes back, since nobody would read them. Ours would.
            merged = _merged(attributes, result.attributes, self._carrier)
            return SamplingResult(_RECORD_ONLY, merged, result.trace_state)
        own: Mapping[str, Any] = result.attributes or {}
        # EDOT's sampler loses the start attributes of sampled spans as well (SDK 1.45's composite sampler gives none
        # back), though the specification has a sampler only add to them: tags and rules would see an empty span.
        lost = bool(attributes) and len(own) < len(attributes) and any(key not in own for key in attributes)
        if lost or (self._carrier and posthog.CARRIER not in own):
            merged = _merged(attributes if lost else None, own, self._carrier)
            return SamplingResult(result.decision, merged, result.trace_state)
        return result

    def _tagged(self, attributes: Mapping[str, Any]) -> bool:
        untagged = self._untagged
        if untagged.issuperset(attributes):
            return False  # walked in C, see `shapes.py`
        for key in attributes:
            if isinstance(key, str) and key.startswith(posthog.PREFIX):  # pyright: ignore[reportUnnecessaryIsInstance]
                return True
            if len(untagged) < _MAX_KEYS:
                untagged.add(key)
        return False

    def get_description(self) -> str:
        """What it does and what it asks."""
        return f"PostHogRecordOnly{{{self._root.get_description()},record={self._record}}}"


def _merged(start: Mapping[str, Any] | None, own: Mapping[str, Any] | None, carrier: str) -> Mapping[str, Any] | None:
    if not carrier and not own:
        return start
    merged: dict[str, Any] = {**(start or {}), **(own or {})}
    if carrier:
        merged.setdefault(posthog.CARRIER, carrier)
    return merged


def record_only_from_env(argument: str | None) -> RecordOnlySampler:
    """The sampler of `OTEL_TRACES_SAMPLER=posthog_record_only`.

    Args:
        argument: `OTEL_TRACES_SAMPLER_ARG`: nothing (`parentbased_always_on`), a ratio (`0.1`: parent-based), the name
            of a standard sampler, or name and ratio (`traceidratio=0.1`).

    Raises:
        ConfigError: It is none of these.
    """
    text = (argument or "").strip().lower()
    name, _, ratio_text = text.partition("=")
    if not ratio_text and name.replace(".", "", 1).replace("e-", "", 1).isdigit():
        name, ratio_text = "parentbased_traceidratio", name
    makers: dict[str, Callable[[float], Sampler]] = {
        "": lambda _: ParentBased(TraceIdRatioBased(1.0)),
        "always_on": lambda _: TraceIdRatioBased(1.0),
        "always_off": lambda _: TraceIdRatioBased(0.0),
        "parentbased_always_on": lambda _: ParentBased(TraceIdRatioBased(1.0)),
        "parentbased_always_off": lambda _: ParentBased(TraceIdRatioBased(0.0)),
        "traceidratio": TraceIdRatioBased,
        "parentbased_traceidratio": lambda ratio: ParentBased(TraceIdRatioBased(ratio)),
    }
    hint = f"Use a ratio such as 0.1, one of {_KNOWN}, or name=ratio"
    if name not in makers:
        raise ConfigError(f"is {argument!r}", key="OTEL_TRACES_SAMPLER_ARG", source="environment", hint=hint)
    try:
        ratio = float(ratio_text) if ratio_text else 1.0
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise ConfigError(f"is {argument!r}", key="OTEL_TRACES_SAMPLER_ARG", source="environment", hint=hint)
    return RecordOnlySampler(makers[name](ratio))


# --- wrapping what is there ------------------------------------------------------------------------------------------


def wrap_tracers(provider: Any, record_unsampled: str = ALL, *, carrier: str = "", travels: bool = False) -> bool:
    """Has the tracers of `provider`, those that exist and those to come, record what is not sampled.

    Idempotent; nothing global is replaced, and `provider.sampler` stays as it is.

    Args:
        provider: An SDK tracer provider, or a proxy around one (logfire's).
        record_unsampled: `all`, `server` or `off`.
        carrier: `posthog.carrier` for every span whose resource does not say it; "" for none.
        travels: Identity goes along with calls, so it must be known where those go whose span is not recorded.

    Returns:
        Whether unsampled spans are recorded now.

    Raises:
        ConfigError: `record_unsampled` is none of the three.
    """
    if record_unsampled not in MODES:
        raise ConfigError(
            f"is {record_unsampled!r}", key="OTEL_POSTHOG_RECORD_UNSAMPLED", hint=f"Use one of {', '.join(MODES)}"
        )
    inner = _inner_provider(provider)
    exporting = exporter_of_unsampled(inner)
    if exporting and record_unsampled != OFF:
        logger.warning(
            "otel-posthog: %s exports unsampled spans, so those are left alone and tagged spans outside the sample "
            "are not captured; use capture() for events that must be complete",
            exporting,
        )
        record_unsampled = OFF
    if carrier and posthog.CARRIER in (getattr(getattr(inner, "resource", None), "attributes", None) or ()):
        carrier = ""  # the resource says it for every span already
    if record_unsampled == OFF and not carrier and not travels:
        return False

    def mended(tracer: Any) -> Any:
        sampler = getattr(tracer, "sampler", None)
        if isinstance(sampler, Sampler) and not isinstance(sampler, RecordOnlySampler):
            tracer.sampler = RecordOnlySampler(sampler, record=record_unsampled, carrier=carrier)
        return tracer

    for tracer in _tracers_of(inner):
        mended(tracer)
    if not getattr(inner, _WRAPPED, False):

        def get_tracer(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
            return mended(wrapped(*args, **kwargs))

        inner.get_tracer = wrapt.FunctionWrapper(inner.get_tracer, get_tracer)
        setattr(inner, _WRAPPED, True)
    return record_unsampled != OFF


def _inner_provider(provider: Any) -> Any:
    """The SDK provider behind a proxy such as logfire's; `provider` itself where it is none."""
    for _ in range(_MAX_PROXIES):
        inner: Any = None if hasattr(provider, "sampler") else getattr(provider, "provider", None)
        if inner is None:
            break
        provider = inner
    return provider


def _tracers_of(provider: Any) -> Iterator[Any]:
    tracers = getattr(provider, "_tracers", None)
    if isinstance(tracers, Mapping):
        yield from tuple(cast("Mapping[Any, Any]", tracers).values())
        return
    # Before SDK 1.42 a provider keeps no list of its tracers; every tracer holds the provider's processor, though.
    processor = getattr(provider, "_active_span_processor", None)
    if processor is None:
        return
    import gc

    for holder in gc.get_referrers(processor):
        # Python 3.11 and newer keep the attributes in the object itself.
        owners: list[Any] = gc.get_referrers(cast("object", holder)) if isinstance(holder, dict) else [holder]
        for owner in owners:
            if owner is not provider and hasattr(owner, "sampler") and hasattr(owner, "start_span"):
                yield owner


def exporter_of_unsampled(provider: Any) -> str:
    """Name of a processor that exports spans which are not sampled, "" where there is none.

    The stock processors skip them. ADOT's for Lambda and X-Ray takes exactly those.
    """
    waiting: list[Any] = [getattr(provider, "_active_span_processor", None)]
    seen: set[int] = set()
    while waiting:
        processor = waiting.pop()
        if processor is None or id(processor) in seen or len(seen) > 200:
            continue
        seen.add(id(processor))
        if "Unsampled" in type(processor).__name__:
            return type(processor).__qualname__
        waiting.extend(getattr(processor, "_span_processors", None) or ())
        waiting.extend(
            getattr(processor, name, None) for name in ("processor", "_processor", "_delegate", "span_processor")
        )
    return ""


__all__ = ["RecordOnlySampler", "exporter_of_unsampled", "record_only_from_env", "wrap_tracers"]
