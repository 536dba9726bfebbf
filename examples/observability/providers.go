package main

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"
)

// providers are the OpenTelemetry SDK of a service. One in production exports with
// OTLP what this one writes down.
type providers struct {
	traces  *trace.TracerProvider
	metrics *metric.MeterProvider
	scrape  http.Handler
}

func newProviders(out io.Writer) (*providers, error) {
	spans, err := stdouttrace.New(stdouttrace.WithWriter(out))
	if err != nil {
		return nil, err
	}
	written, err := stdoutmetric.New(stdoutmetric.WithWriter(out))
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	scraped, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	if err != nil {
		return nil, err
	}
	return &providers{
		traces:  trace.NewTracerProvider(trace.WithSyncer(spans)),
		metrics: metric.NewMeterProvider(metric.WithReader(scraped), metric.WithReader(metric.NewPeriodicReader(written))),
		scrape:  promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
	}, nil
}

func (p *providers) shutdown(ctx context.Context) error {
	return errors.Join(p.traces.Shutdown(ctx), p.metrics.Shutdown(ctx))
}
