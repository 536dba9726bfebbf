package conformance

import (
	"context"
	"log/slog"
	"sync"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/ezq"
)

// runAttached runs a Watermill router with the topics of router until ctx ends, or
// all its handlers have.
func runAttached(ctx context.Context, router *ezq.Router) error {
	w, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	if err := router.Attach(w); err != nil {
		return err
	}
	return w.Run(ctx)
}

// stopLog is a log that keeps what a router that is attached says of its end, which
// Run would have returned.
type stopLog struct {
	mu  sync.Mutex
	err error
}

var _ slog.Handler = (*stopLog)(nil)

func (l *stopLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *stopLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *stopLog) WithGroup(string) slog.Handler            { return l }

func (l *stopLog) Handle(_ context.Context, record slog.Record) error {
	if record.Message != "ezq: the router has stopped" {
		return nil
	}
	record.Attrs(func(a slog.Attr) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if err, ok := a.Value.Any().(error); ok {
			l.err = err
		}
		return true
	})
	return nil
}

func (l *stopLog) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
