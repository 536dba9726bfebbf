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
// fails again for ever, except what is [Permanent], and obeys control events. For production say how often an event
// is tried, with the Retry, Poison and Timeout of package middleware, and set IgnoreControl
// where not each publisher of a topic may stop its consumers.
type Config struct {
	// Concurrency is how many events of one topic are handled at a time, at most
	// 1,048,576. With 1 they are handled in the order in which the backend delivers
	// them. Defaults to 10. The option [Concurrency] limits a single handler.
	Concurrency int

	// Topics adjusts single topics, by their names. It may only name topics that
	// the router has handlers on.
	Topics map[string]TopicConfig

	// DrainTimeout is how long handlers may go on after the router was told to
	// stop, before it interrupts them. Defaults to 10 seconds.
	DrainTimeout time.Duration

	// IgnoreControl makes EndEvent and InterruptEvent ordinary events. By default they
	// are obeyed, as in the Python library: each program that may publish to a topic may
	// stop its routers. Set it for a service that is to run until its context ends, on a
	// topic that others publish to, and name control events that may come in
	// [Router.Ignore]: without a handler they are unknown.
	IgnoreControl bool

	// UnknownFor is how long an event that no handler takes is left to other programs:
	// in a rolling deploy an old replica meets the events of new ones. It is released,
	// uncounted, and comes back after 1 second, doubling up to 1 minute. After that time
	// it fails for good, with [UnknownEventError]. Defaults to 24 hours; less than a
	// second, such as 1, means at once.
	//
	// The time begins when the first router meets the event that does not know it, and
	// the backend keeps it; a dead letter that is moved back gets its time again. A
	// backend that does not promise Progress keeps nothing: the time then begins when
	// this router first meets an event of that name.
	UnknownFor time.Duration

	// Logger receives what the router has to report. Of events that fail by the thousand it
	// gets the first ten of each minute, for each handler, and how many more there were.
	// Defaults to [slog.Default].
	Logger *slog.Logger
}

// TopicConfig adjusts how a [Router] treats one topic. What is zero is as in its
// [Config].
type TopicConfig struct {
	// Concurrency is how many events of the topic are handled at a time.
	Concurrency int
}

const (
	defaultConcurrency  = 10
	maxConcurrency      = 1 << 20
	defaultDrainTimeout = 10 * time.Second
)

// flaw says what is wrong with c, and what to write instead. It is "" if nothing is.
func (c Config) flaw() string {
	if flaw := concurrencyFlaw(c.Concurrency, fmt.Sprint("the default of ", defaultConcurrency)); flaw != "" {
		return "Config.Concurrency " + flaw
	}
	for _, name := range slices.Sorted(maps.Keys(c.Topics)) {
		if flaw := concurrencyFlaw(c.Topics[name].Concurrency, "that of Config.Concurrency"); flaw != "" {
			return fmt.Sprintf("Config.Topics[%q].Concurrency %s", name, flaw)
		}
	}
	if c.DrainTimeout < 0 {
		return fmt.Sprintf("Config.DrainTimeout is %v: use a positive duration, or 0 for the default of %v", c.DrainTimeout, defaultDrainTimeout)
	}
	if c.UnknownFor < 0 {
		return fmt.Sprintf("Config.UnknownFor is %v: use a positive duration, 1 for at once, or 0 for the default of %v", c.UnknownFor, defaultUnknownFor)
	}
	return ""
}

func concurrencyFlaw(n int, zero string) string {
	if n < 0 || n > maxConcurrency {
		return fmt.Sprintf("is %d: use 1 to %d, or 0 for %s", n, maxConcurrency, zero)
	}
	return ""
}

func (c Config) withDefaults() Config {
	c.Topics = maps.Clone(c.Topics)
	c.Concurrency = cmp.Or(c.Concurrency, defaultConcurrency)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, defaultDrainTimeout)
	c.UnknownFor = cmp.Or(c.UnknownFor, defaultUnknownFor)
	c.Logger = sparse.New(cmp.Or(c.Logger, slog.Default()))
	return c
}
