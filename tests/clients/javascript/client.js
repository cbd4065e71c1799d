// The story of the clients (../README.md), told with the official SDK for Node.js: traces as OTLP/JSON, logs as
// protobuf. Endpoint and headers come from the standard variables.
'use strict';
const { context, trace, SpanKind, SpanStatusCode } = require('@opentelemetry/api');
const { OTLPLogExporter } = require('@opentelemetry/exporter-logs-otlp-proto');
const { OTLPTraceExporter } = require('@opentelemetry/exporter-trace-otlp-http');
const { defaultResource, resourceFromAttributes } = require('@opentelemetry/resources');
const { BatchLogRecordProcessor, LoggerProvider } = require('@opentelemetry/sdk-logs');
const { BatchSpanProcessor, NodeTracerProvider } = require('@opentelemetry/sdk-trace-node');

const about = { 'service.name': 'shop-javascript', 'service.version': '1.2.3' };
const resource = defaultResource().merge(resourceFromAttributes(about));
const traces = new NodeTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())] });
traces.register();
const logs = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter() })] });
const tracer = trace.getTracer('shop', '9');
const logger = logs.getLogger('shop', '9');

function charge() { throw new RangeError('card declined'); }

async function main() {
  const sent = {};
  tracer.startActiveSpan('checkout', { kind: SpanKind.SERVER }, (span) => {
    span.setAttributes({
      'posthog.event': 'order completed',
      'posthog.distinct_id': 'javascript-ada',
      'posthog.properties.total': 42,
      'posthog.properties.rate': 0.5,
      'posthog.properties.gift': true,
      'posthog.properties.items': ['tea', 'cup'],
      'posthog.set.plan': 'pro',
      'posthog.groups.company': 'acme',
    });
    logger.emit({
      severityText: 'INFO',
      severityNumber: 9,
      body: 'receipt sent',
      attributes: { 'posthog.event': 'receipt sent', 'posthog.distinct_id': 'javascript-ada', 'posthog.properties.pages': 2 },
      context: context.active(),
    });
    sent.trace_id = span.spanContext().traceId;
    sent.span_id = span.spanContext().spanId;
    tracer.startActiveSpan('charge card', (inner) => {
      inner.setAttribute('posthog.distinct_id', 'javascript-ada');
      try { charge(); } catch (error) {
        inner.recordException(error);
        inner.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
      }
      sent.exception_span_id = inner.spanContext().spanId;
      inner.end();
    });
    tracer.startSpan('nobody\'s business').end();
    logger.emit({ body: 'nobody\'s business', context: context.active() });
    span.end();
  });
  await traces.shutdown();
  await logs.shutdown();
  console.log(JSON.stringify(sent));
}

main();
