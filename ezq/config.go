package ezq

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/ezq-go/ezq/internal/sparse"
)

// Config adjusts a [Router]. The zero value is ready for use: it loses nothing, tries what
// fails again for ever, except what is [Permanent], and obeys control events. For
// production set how often an event is tried, with the Retry, Poison and Timeout of package
// middleware, and set IgnoreControl where not each publisher of a topic may stop its
// consumers.
type Config struct {
	// Concurrency is how many events of one topic are handled at a time, at most
	// 1,048,576. With 1 they are handled in the order in which the backend delivers
	// them. Defaults to 10. The option [Concurrency] limits a single handler.
	Concurrency int

	// Topics adjusts single topics, by their names. It may only name topics that
	// the router has handlers on.
	Topics map[string]TopicConfig

	// DrainTimeout is how long running handlers may continue when the router stops.
	// After that it interrupts them. Defaults to 10 seconds.
	DrainTimeout time.Duration

	// IgnoreControl makes EndEvent and InterruptEvent ordinary events. By default they
	// are obeyed, as in the Python library: each program that may publish to a topic may
	// stop its routers. Set it for a service that is to run until its context ends, on a
	// topic that others publish to, and name control events that may come in
	// [Router.Ignore]: without a handler they are unknown.
	IgnoreControl bool

	// UnknownFor is how long an event without a handler is left to other programs:
	// in a rolling deploy an old replica receives the events of new ones. The event is
	// released, uncounted, and delivered again after 1 second, doubling up to 1 minute.
	// After that time it fails for good, with [UnknownEventError]. Defaults to 24 hours;
	// less than a second, such as 1, means at once.
	//
	// The time begins when the event first reaches a router that does not know it. The
	// backend keeps that time; a dead letter that is redriven gets its time again. On a
	// backend that does not promise Progress, the time begins when this router first
	// receives an event of that name.
	UnknownFor time.Duration

	// Logger receives the records that no call returns. When events fail by the
	// thousand, it receives the first ten of each minute for each handler, and the number
	// of the others. Defaults to [slog.Default].
	Logger *slog.Logger
}

// TopicConfig adjusts how a [Router] treats one topic. Zero fields inherit from [Config].
type TopicConfig struct {
	// Concurrency is how many events of the topic are handled at a time.
	Concurrency int

	// DropExpired acks events that have expired, where otherwise they become dead
	// letters: see [Expires].
	DropExpired bool
}

const (
	defaultConcurrency  = 10
	maxConcurrency      = 1 << 20
	defaultDrainTimeout = 10 * time.Second
	defaultUnknownFor   = 24 * time.Hour
)

// validate returns an error that says what is wrong with c, and what to write instead.
func (c Config) validate() error {
	if err := validateConcurrency(c.Concurrency, fmt.Sprint("the default of ", defaultConcurrency)); err != nil {
		return fmt.Errorf("Config.Concurrency %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Topics)) {
		if err := validateConcurrency(c.Topics[name].Concurrency, "that of Config.Concurrency"); err != nil {
			return fmt.Errorf("Config.Topics[%q].Concurrency %w", name, err)
		}
	}
	if c.DrainTimeout < 0 {
		return fmt.Errorf("Config.DrainTimeout is %v: use a positive duration, or 0 for the default of %v", c.DrainTimeout, defaultDrainTimeout)
	}
	if c.UnknownFor < 0 {
		return fmt.Errorf("Config.UnknownFor is %v: use a positive duration, 1 for at once, or 0 for the default of %v", c.UnknownFor, defaultUnknownFor)
	}
	return nil
}

func validateConcurrency(n int, zero string) error {
	if n < 0 || n > maxConcurrency {
		return fmt.Errorf("is %d: use 1 to %d, or 0 for %s", n, maxConcurrency, zero)
	}
	return nil
}

func (c Config) withDefaults() Config {
	c.Topics = maps.Clone(c.Topics)
	c.Concurrency = cmp.Or(c.Concurrency, defaultConcurrency)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, defaultDrainTimeout)
	c.UnknownFor = cmp.Or(c.UnknownFor, defaultUnknownFor)
	c.Logger = sparse.New(cmp.Or(c.Logger, slog.Default()))
	return c
}
