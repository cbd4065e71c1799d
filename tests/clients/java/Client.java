// The story of the clients (../README.md) under the OpenTelemetry Java agent: the agent exports, and turns the lines of
// java.util.logging into log records; the program only annotates.

import io.opentelemetry.api.GlobalOpenTelemetry;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.logs.Logger;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Scope;
import java.util.List;

public class Client {
  static void charge() {
    throw new IllegalStateException("card declined");
  }

  public static void main(String[] arguments) {
    Tracer tracer = GlobalOpenTelemetry.get().getTracerProvider().tracerBuilder("shop").setInstrumentationVersion("9").build();
    Logger logger = GlobalOpenTelemetry.get().getLogsBridge().loggerBuilder("shop").setInstrumentationVersion("9").build();
    Span span = tracer.spanBuilder("checkout").setSpanKind(SpanKind.SERVER).startSpan();
    String failed;
    try (Scope ignored = span.makeCurrent()) {
      span.setAttribute("posthog.event", "order completed");
      span.setAttribute("posthog.distinct_id", "java-ada");
      span.setAttribute("posthog.properties.total", 42L);
      span.setAttribute("posthog.properties.rate", 0.5);
      span.setAttribute("posthog.properties.gift", true);
      span.setAttribute(AttributeKey.stringArrayKey("posthog.properties.items"), List.of("tea", "cup"));
      span.setAttribute("posthog.set.plan", "pro");
      span.setAttribute("posthog.groups.company", "acme");
      logger.logRecordBuilder()
          .setTimestamp(java.time.Instant.now())
          .setSeverity(Severity.INFO)
          .setSeverityText("INFO")
          .setBody("receipt sent")
          .setAllAttributes(Attributes.builder()
              .put("posthog.event", "receipt sent")
              .put("posthog.distinct_id", "java-ada")
              .put("posthog.properties.pages", 2L)
              .build())
          .emit();
      Span inner = tracer.spanBuilder("charge card").startSpan();
      inner.setAttribute("posthog.distinct_id", "java-ada");
      try {
        charge();
      } catch (IllegalStateException declined) {
        inner.recordException(declined);
        inner.setStatus(StatusCode.ERROR, declined.getMessage());
      }
      failed = inner.getSpanContext().getSpanId();
      inner.end();
      tracer.spanBuilder("nobody's business").startSpan().end();
      java.util.logging.Logger.getLogger("shop").info("nobody's business");
    }
    span.end();
    System.out.println(String.format("{\"trace_id\":\"%s\",\"span_id\":\"%s\",\"exception_span_id\":\"%s\"}",
        span.getSpanContext().getTraceId(), span.getSpanContext().getSpanId(), failed));
  }
}
