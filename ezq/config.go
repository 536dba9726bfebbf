package ezq

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// Config adjusts a [Router]. The zero value is ready for production.
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

	// IgnoreControl makes EndEvent and InterruptEvent ordinary events, so that
	// whoever may publish may not also stop the router.
	IgnoreControl bool

	// IgnoreUnknown acknowledges events that no handler takes, before any
	// middleware sees them. Otherwise they fail with [UnknownEventError], and stay
	// in the queue for a program that knows them, unless a middleware makes dead
	// letters of them.
	IgnoreUnknown bool

	// Logger receives what the router has to report. Defaults to [slog.Default].
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
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return c
}
