package brokers

import (
	"cmp"
	"context"
	"runtime/debug"
	"time"

	"github.com/ezq-go/ezq/conformance"
)

// Backend is a Pub/Sub in one of its modes, and what it promises there.
type Backend struct {
	Name     string
	Mode     string // the settings that matter, in a few words
	Module   string // the Go module that it comes from
	Ours     bool   // it is part of ezq, so a single failure is one too many
	Promises conformance.Promises

	// Start makes the factory, and what it needs on its server. stop releases that.
	// Without the server the error is a [*MissingError].
	Start func(ctx context.Context, services Services) (open conformance.Open, stop func() error, err error)

	// Timeout is how long one case may take.
	Timeout time.Duration

	// Parallel is how many cases may run at the same time, if not as many as usual.
	Parallel int
}

// Title is how tests and tables call the backend.
func (b Backend) Title() string { return b.Name + ", " + b.Mode }

// Version is the version of the module, as this program has been built with it.
func (b Backend) Version() string {
	info, ok := debug.ReadBuildInfo()
	if b.Ours || !ok {
		return "this revision"
	}
	for _, module := range info.Deps {
		if module.Path == b.Module {
			return module.Version
		}
	}
	return "unknown"
}

// All lists every backend: ours first.
func All() []Backend {
	return []Backend{
		memoryBackend(),
		pgmqBackend("plain SQL", plainSQL, false),
		pgmqBackend("plain SQL, SyncAck", plainSQL, true),
		pgmqBackend("extension", extension, false),
		pgmqBackend("behind PgBouncer", behindPooler, false),
		goChannel(),
		watermillSQL("default schema", defaultSchema()),
		watermillSQL("queue schema", queueSchema()),
		jetStream(asDocumented()),
		jetStream(repaired()),
		rabbitMQ(),
		redisStreams(),
	}
}

// Options returns how the suite is to be run on the backend.
func (b Backend) Options() []conformance.Option {
	return []conformance.Option{conformance.Timeout(b.Timeout), conformance.Parallel(cmp.Or(b.Parallel, 8))}
}

// unsettled is after how long a foreign Pub/Sub delivers a message again that was not
// settled, where that can be set: their defaults, of half a minute and more, are longer
// than a case waits.
const unsettled = 2 * time.Second

func nothing() error { return nil }
