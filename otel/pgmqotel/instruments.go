package pgmqotel

import (
	"context"
	"errors"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/ezq-go/ezq/backend/pgmq"
)

type instruments struct {
	visible, invisible, estimate, deadRows metric.Int64ObservableGauge
	oldestAge                              metric.Float64ObservableGauge

	claimed, settled, quarantined, leasesLost, cancelled metric.Int64ObservableCounter
	prefetched, unstored, failing, paused                metric.Int64ObservableGauge
}

// create makes all instruments, and returns them as a list too.
func (in *instruments) create(meter metric.Meter) ([]metric.Observable, error) {
	var all []metric.Observable
	var errs []error
	for _, gauge := range []struct {
		at                      *metric.Int64ObservableGauge
		name, unit, description string
	}{
		{&in.visible, "ezq.queue.visible", "{message}", "Messages that wait for a consumer, counted up to 10,000."},
		{&in.invisible, "ezq.queue.invisible", "{message}", "Messages that are leased, delayed, or wait for a retry, counted up to 10,000."},
		{&in.estimate, "ezq.queue.estimate", "{message}", "About how many messages there are."},
		{&in.deadRows, "ezq.queue.dead_rows", "{row}", "Rows that VACUUM has to remove."},
		{&in.prefetched, "ezq.subscription.prefetched", "{message}", "Messages claimed that no consumer has received yet."},
		{&in.unstored, "ezq.subscription.unstored", "{message}", "Outcomes that are not stored yet."},
		{&in.failing, "ezq.subscription.failing", "", "Whether messages cannot be fetched."},
		{&in.paused, "ezq.subscription.paused", "", "Whether a pause of the topic holds, or of the group."},
	} {
		made, err := meter.Int64ObservableGauge(gauge.name, metric.WithUnit(gauge.unit), metric.WithDescription(gauge.description))
		*gauge.at, all, errs = made, append(all, made), append(errs, err)
	}
	for _, counter := range []struct {
		at                *metric.Int64ObservableCounter
		name, description string
	}{
		{&in.claimed, "ezq.subscription.claimed", "Messages claimed."},
		{&in.settled, "ezq.subscription.settled", "Outcomes stored."},
		{&in.quarantined, "ezq.subscription.quarantined", "Messages that cannot be read or are too large, and were quarantined."},
		{&in.leasesLost, "ezq.subscription.leases_lost", "Messages that lost their lease while a handler had them."},
		{&in.cancelled, "ezq.subscription.cancelled", "Messages removed while consumers had them."},
	} {
		made, err := meter.Int64ObservableCounter(counter.name, metric.WithUnit("{message}"), metric.WithDescription(counter.description))
		*counter.at, all, errs = made, append(all, made), append(errs, err)
	}
	age, err := meter.Float64ObservableGauge("ezq.queue.oldest_age",
		metric.WithUnit("s"), metric.WithDescription("For how long the oldest of the visible messages has been visible."))
	in.oldestAge, all, errs = age, append(all, age), append(errs, err)
	return all, errors.Join(errs...)
}

// observeQueues asks about each topic.
func (in *instruments) observeQueues(ctx context.Context, o metric.Observer, client *pgmq.Client, topics []string) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var errs []error
	for _, topic := range topics {
		found, err := client.Metrics(ctx, topic)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		at := metric.WithAttributes(destination(topic, found.Group)...)
		o.ObserveInt64(in.visible, int64(found.Visible), at)
		o.ObserveInt64(in.invisible, int64(found.Invisible), at)
		o.ObserveInt64(in.estimate, found.Estimate, at)
		o.ObserveInt64(in.deadRows, found.DeadRows, at)
		o.ObserveFloat64(in.oldestAge, found.OldestVisible.Seconds(), at)
	}
	return errors.Join(errs...)
}

func (in *instruments) observeStats(o metric.Observer, topics map[string]pgmq.SubscriptionStats) {
	for topic, stats := range topics {
		whose := destination(topic, stats.Group)
		at := metric.WithAttributes(whose...)
		o.ObserveInt64(in.claimed, stats.Claimed, at)
		for settlement, n := range map[string]int64{
			"acked": stats.Acked, "nacked": stats.Nacked, "dead_lettered": stats.DeadLettered,
			"released": stats.Released, "too_late": stats.TooLate, "gone": stats.Gone,
		} {
			o.ObserveInt64(in.settled, n, metric.WithAttributes(append(slices.Clip(whose), attribute.String("ezq.settlement", settlement))...))
		}
		o.ObserveInt64(in.quarantined, stats.Quarantined, at)
		o.ObserveInt64(in.leasesLost, stats.LeasesLost, at)
		o.ObserveInt64(in.cancelled, stats.Cancelled, at)
		o.ObserveInt64(in.prefetched, stats.Prefetched, at)
		o.ObserveInt64(in.unstored, stats.Unstored, at)
		o.ObserveInt64(in.failing, boolToInt(stats.Failing != nil), at)
		o.ObserveInt64(in.paused, boolToInt(stats.TopicPause != nil), at)
	}
}

func boolToInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
