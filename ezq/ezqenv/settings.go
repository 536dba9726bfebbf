package ezqenv

import (
	"cmp"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
)

// Settings is what the environment says. Zero fields, except Topic, were not set:
// the defaults of the packages apply.
//
// It can be printed and logged: no way of doing so shows the password of DatabaseURL, and [Read] refuses
// connection settings in the place of a name. Only a bare password that was set as a topic, a group, a user
// or a database is shown: nothing tells it from a name.
type Settings struct {
	// DatabaseURL is for [pgmq.Open], as DatabaseURL.Reveal().
	DatabaseURL URL

	// Topic is for the option of that name. Defaults to [ezq.DefaultTopic].
	Topic string

	// HandlerTimeout is for middleware.Timeout. If it is 0, there shall be no limit.
	HandlerTimeout time.Duration

	// LogLevel is for the program's logger. 0 is [slog.LevelInfo].
	LogLevel slog.Level

	// Concurrency and DrainTimeout are those of [Settings.Router].
	Concurrency  int
	DrainTimeout time.Duration

	// Group, Lease, PollInterval and MaxConns are those of [Settings.PGMQ].
	Group        string
	Lease        time.Duration
	PollInterval time.Duration
	MaxConns     int
}

// Router returns the configuration for [ezq.NewRouter].
func (s Settings) Router() *ezq.Config {
	return &ezq.Config{Concurrency: s.Concurrency, DrainTimeout: s.DrainTimeout}
}

// PGMQ returns the configuration for [pgmq.Open]. Its DrainTimeout is that of the
// settings, too: it counts for subscriptions without a router.
func (s Settings) PGMQ() *pgmq.Config {
	return &pgmq.Config{Subscriber: pgmq.SubscriberConfig{
		Group: s.Group, Lease: s.Lease, PollInterval: s.PollInterval, MaxConns: s.MaxConns, DrainTimeout: s.DrainTimeout,
	}}
}

// attrs lists what is set, by the names of the variables.
func (s Settings) attrs() (attrs []slog.Attr) {
	add := func(isSet bool, a slog.Attr) {
		if isSet {
			attrs = append(attrs, a)
		}
	}
	add(s.DatabaseURL != (URL{}), slog.String("EZQ_DATABASE_URL", s.DatabaseURL.String()))
	add(true, slog.String("EZQ_TOPIC", cmp.Or(s.Topic, ezq.DefaultTopic)))
	add(s.Group != "", slog.String("EZQ_GROUP", s.Group))
	add(s.Concurrency != 0, slog.Int("EZQ_CONCURRENCY", s.Concurrency))
	add(s.MaxConns != 0, slog.Int("EZQ_CONNECTIONS", s.MaxConns))
	add(s.HandlerTimeout != 0, slog.String("EZQ_HANDLER_TIMEOUT", s.HandlerTimeout.String()))
	add(s.DrainTimeout != 0, slog.String("EZQ_DRAIN_TIMEOUT", s.DrainTimeout.String()))
	add(s.PollInterval != 0, slog.String("EZQ_POLL_INTERVAL", s.PollInterval.String()))
	add(s.Lease != 0, slog.String("EZQ_LEASE", s.Lease.String()))
	add(true, slog.String("EZQ_LOG_LEVEL", s.LogLevel.String()))
	return attrs
}

// String lists what is set, as in "EZQ_TOPIC=orders EZQ_CONCURRENCY=20". A value that is not one word
// is quoted.
func (s Settings) String() string {
	var words []string
	for _, a := range s.attrs() {
		value := a.Value.String()
		if quoted := strconv.Quote(value); strings.Contains(value, " ") || quoted != `"`+value+`"` {
			value = quoted
		}
		words = append(words, a.Key+"="+value)
	}
	return strings.Join(words, " ")
}

// LogValue implements [slog.LogValuer].
func (s Settings) LogValue() slog.Value { return slog.GroupValue(s.attrs()...) }
