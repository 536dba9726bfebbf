package ezqotel

import (
	"errors"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"
)

// instruments are the metrics that messages are counted in as they pass.
type instruments struct {
	sent     messagingconv.ClientSentMessages
	duration messagingconv.ClientOperationDuration
	consumed messagingconv.ClientConsumedMessages
	process  messagingconv.ProcessDuration
	active   metric.Int64UpDownCounter
	latency  metric.Float64Histogram
}

func newInstruments(meter metric.Meter) (in instruments, err error) {
	var errs [6]error
	in.sent, errs[0] = messagingconv.NewClientSentMessages(meter)
	in.duration, errs[1] = messagingconv.NewClientOperationDuration(meter, durationBuckets())
	in.consumed, errs[2] = messagingconv.NewClientConsumedMessages(meter)
	in.process, errs[3] = messagingconv.NewProcessDuration(meter, durationBuckets())
	in.active, errs[4] = meter.Int64UpDownCounter("ezq.process.active",
		metric.WithUnit("{message}"), metric.WithDescription("Messages being handled now."))
	in.latency, errs[5] = meter.Float64Histogram("ezq.message.latency", latencyBuckets(),
		metric.WithUnit("s"), metric.WithDescription("From the publish of a message until it was handled, delays included."))
	return in, errors.Join(errs[:]...)
}

// durationBuckets are the buckets that the semantic conventions advise for durations.
func durationBuckets() metric.HistogramOption {
	return metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
}

// latencyBuckets are buckets for what may take from milliseconds to a day.
func latencyBuckets() metric.HistogramOption {
	return metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
}
