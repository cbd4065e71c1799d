// The story of the clients (../README.md), told with the official SDK for Go: traces over gRPC, logs as protobuf over
// HTTP. Endpoints and headers come from the standard variables.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	otellog "go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	about, err := resource.Merge(resource.Default(), resource.NewSchemaless(
		attribute.String("service.name", "shop-go"), attribute.String("service.version", "1.2.3")))
	must(err)
	spans, err := otlptracegrpc.New(ctx)
	must(err)
	records, err := otlploghttp.New(ctx)
	must(err)
	traces := sdktrace.NewTracerProvider(sdktrace.WithBatcher(spans), sdktrace.WithResource(about))
	logs := sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewBatchProcessor(records)), sdklog.WithResource(about))
	tracer := traces.Tracer("shop", trace.WithInstrumentationVersion("9"))
	logger := logs.Logger("shop", otellog.WithInstrumentationVersion("9"))

	inside, span := tracer.Start(ctx, "checkout", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("posthog.event", "order completed"),
		attribute.String("posthog.distinct_id", "go-ada"),
		attribute.Int("posthog.properties.total", 42),
		attribute.Float64("posthog.properties.rate", 0.5),
		attribute.Bool("posthog.properties.gift", true),
		attribute.StringSlice("posthog.properties.items", []string{"tea", "cup"}),
		attribute.String("posthog.set.plan", "pro"),
		attribute.String("posthog.groups.company", "acme"),
	))
	var receipt otellog.Record
	receipt.SetTimestamp(time.Now())
	receipt.SetSeverity(otellog.SeverityInfo)
	receipt.SetSeverityText("INFO")
	receipt.SetBody(attribute.StringValue("receipt sent"))
	receipt.AddAttributes(
		attribute.String("posthog.event", "receipt sent"),
		attribute.String("posthog.distinct_id", "go-ada"),
		attribute.Int("posthog.properties.pages", 2),
	)
	logger.Emit(inside, receipt)

	_, charge := tracer.Start(inside, "charge card", trace.WithAttributes(attribute.String("posthog.distinct_id", "go-ada")))
	declined := errors.New("card declined")
	charge.RecordError(declined, trace.WithStackTrace(true))
	charge.SetStatus(codes.Error, declined.Error())
	charge.End()

	_, nobody := tracer.Start(inside, "nobody's business")
	nobody.End()
	var idle otellog.Record
	idle.SetTimestamp(time.Now())
	idle.SetBody(attribute.StringValue("nobody's business"))
	logger.Emit(inside, idle)
	span.End()

	must(traces.Shutdown(ctx))
	must(logs.Shutdown(ctx))
	must(json.NewEncoder(os.Stdout).Encode(map[string]string{
		"trace_id":          span.SpanContext().TraceID().String(),
		"span_id":           span.SpanContext().SpanID().String(),
		"exception_span_id": charge.SpanContext().SpanID().String(),
	}))
}
