package subscription_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// What the tests count on.
const (
	lease     = 30 * time.Second
	operation = 5 * time.Second // the longest that a call may take
	drain     = 10 * time.Second
	grace     = 5 * time.Second
	lastFlush = 5 * time.Second

	longestLock = lease / 10
)

// errImpatient is why consumers in these tests end their contexts.
var errImpatient = errors.New("the consumer waits no longer")

// environment is one store, and subscriptions to it that end with the test.
type environment struct {
	t             *testing.T
	store         *fakeStore
	subscriptions *subscription.Subscriptions
	config        subscription.Config
	logs          *logRecorder
	handlersWait  bool // what is handed over waits before its handler begins
}

// bubble runs f in virtual time. Afterwards it ends all subscriptions, and fails
// if a goroutine is left or the ledger of the store shows a broken promise.
func bubble(t *testing.T, f func(t *testing.T, env *environment)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		env := newEnvironment(t)
		t.Cleanup(func() {
			env.subscriptions.Close()
			synctest.Wait()
			env.requirePromises()
			env.assertNothingCounted()
		})
		f(t, env)
	})
}

func newEnvironment(t *testing.T) *environment {
	t.Helper()
	log := &logRecorder{}
	return &environment{
		t: t, store: newFakeStore(), subscriptions: subscription.NewSubscriptions(), logs: log,
		config: subscription.Config{
			Topic:            "t",
			Lease:            lease,
			MaxExtension:     time.Hour,
			MaxInFlight:      10,
			DrainTimeout:     drain,
			OperationTimeout: operation,
			Counters:         &subscription.Counters{},
			Logger:           slog.New(log),
		},
	}
}

// assertNothingCounted asserts that no message is counted. All subscriptions must have ended.
func (env *environment) assertNothingCounted() {
	env.t.Helper()
	counters := env.config.Counters
	assert.Zero(env.t, counters.Prefetched.Load(), "prefetched")
	assert.Zero(env.t, counters.InFlight.Load(), "in flight")
	assert.Zero(env.t, counters.Unstored.Load(), "unstored")
}

func (env *environment) requirePromises() {
	env.t.Helper()
	h := newHistory(env.store.recorded(), env.config.MaxExtension)
	h.handlersWait = env.handlersWait
	if broken := h.brokenPromises(); len(broken) > 0 {
		for _, e := range env.store.recorded() {
			env.t.Log(e)
		}
		env.t.Errorf("broken promises:\n%s", strings.Join(broken, "\n"))
	}
}

// consumer is one subscription, and the reader of its channel.
type consumer struct {
	*storeView
	t        *testing.T
	messages <-chan *message.Message
}

// subscribe starts a subscription that ends with the test.
func (env *environment) subscribe() *consumer {
	env.t.Helper()
	return env.subscribeAs("A", env.t.Context())
}

func (env *environment) subscribeAs(subscriber string, ctx context.Context) *consumer { //nolint:revive // the name of the subscription comes first
	env.t.Helper()
	return env.start(ctx, env.store.viewOf(subscriber))
}

// start starts a subscription to a store whose faults are scripted.
func (env *environment) start(ctx context.Context, v *storeView) *consumer {
	env.t.Helper()
	messages, err := env.subscriptions.Start(ctx, v, env.config)
	require.NoError(env.t, err)
	return &consumer{storeView: v, t: env.t, messages: messages}
}

// receive returns the next message, which must come within a day.
func (c *consumer) receive() *message.Message {
	c.t.Helper()
	timeout := time.NewTimer(24 * time.Hour)
	defer timeout.Stop()
	select {
	case msg, ok := <-c.messages:
		require.True(c.t, ok, "the subscription has ended")
		c.recordReceived(msg)
		return msg
	case <-timeout.C:
		require.FailNow(c.t, "no message comes")
		return nil
	}
}

// requireNone fails if a message waits to be received.
func (c *consumer) requireNone() {
	c.t.Helper()
	synctest.Wait()
	select {
	case msg, ok := <-c.messages:
		require.False(c.t, ok, "received %v", msg)
	default:
	}
}

// requireClosed waits until the subscription has ended.
func (c *consumer) requireClosed() {
	c.t.Helper()
	msg, open := <-c.messages
	require.False(c.t, open, "received %v", msg)
	c.record(event{kind: closed, subscriber: c.subscriber})
}

// requireLost waits until the context of msg has ended with ErrLeaseLost.
func requireLost(t *testing.T, msg *message.Message) {
	t.Helper()
	<-msg.Context().Done()
	require.ErrorIs(t, context.Cause(msg.Context()), backend.ErrLeaseLost)
}

// logRecorder is a log whose records can be counted.
type logRecorder struct {
	mu    sync.Mutex
	lines []string
}

func (r *logRecorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *logRecorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *logRecorder) WithGroup(string) slog.Handler            { return r }

func (r *logRecorder) Handle(_ context.Context, record slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := record.Message
	record.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	r.lines = append(r.lines, line)
	return nil
}

// count returns how many records contain part.
func (r *logRecorder) count(part string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}
