package ezqotel

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/ezq-go/ezq/ezq"
)

// ObserveRouter reports, whenever metrics are collected, what router knows:
//
//	ezq.router.healthy     1 if Router.Healthy returns nil, otherwise 0
//	ezq.router.in_flight   messages taken and not settled, those included that wait
//	ezq.router.paused      1 if the topic is paused, otherwise 0
//	ezq.router.unknown     deliveries released because no handler takes them
//	ezq.router.ignored     events acknowledged, as Router.Ignore says
//
// Unregister what it returns before another router of the same topics is observed.
// It panics if router is nil.
func (t *Telemetry) ObserveRouter(router *ezq.Router) (metric.Registration, error) {
	if router == nil {
		panic("ezqotel: ObserveRouter: the router is nil")
	}
	var errs [5]error
	var healthy, inFlight, paused metric.Int64ObservableGauge
	healthy, errs[0] = t.meter.Int64ObservableGauge("ezq.router.healthy",
		metric.WithDescription("Whether the router runs and receives messages."))
	inFlight, errs[1] = t.meter.Int64ObservableGauge("ezq.router.in_flight",
		metric.WithUnit("{message}"), metric.WithDescription("Messages taken and not settled, waiting ones included."))
	paused, errs[2] = t.meter.Int64ObservableGauge("ezq.router.paused",
		metric.WithDescription("Whether the topic is paused."))
	var unknown, ignored metric.Int64ObservableCounter
	unknown, errs[3] = t.meter.Int64ObservableCounter("ezq.router.unknown",
		metric.WithUnit("{message}"), metric.WithDescription("Deliveries released because no handler takes them."))
	ignored, errs[4] = t.meter.Int64ObservableCounter("ezq.router.ignored",
		metric.WithUnit("{message}"), metric.WithDescription("Messages acknowledged because the router is to ignore them."))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("ezqotel: the meter provider refuses an instrument: %w", err)
	}
	return t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(healthy, number(router.Healthy() == nil))
		for topic, stats := range router.Stats() {
			at := metric.WithAttributes(semconv.MessagingDestinationName(topic))
			o.ObserveInt64(inFlight, stats.InFlight, at)
			o.ObserveInt64(paused, number(stats.Paused), at)
			o.ObserveInt64(unknown, stats.Unknown, at)
			o.ObserveInt64(ignored, stats.Ignored, at)
		}
		return nil
	}, healthy, inFlight, paused, unknown, ignored)
}

func number(is bool) int64 {
	if is {
		return 1
	}
	return 0
}
