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
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/subscription"
)

// What the tests count on.
const (
	lease     = 30 * time.Second
	operation = 5 * time.Second // the longest that a call may take
	drain     = 10 * time.Second
	grace     = 5 * time.Second
	lastFlush = 5 * time.Second

	longestHold = lease / 10
)

// errImpatient is why consumers in these tests end their contexts.
var errImpatient = errors.New("the consumer waits no longer")

// rig is one store, and subscriptions to it that end with the test.
type rig struct {
	t      *testing.T
	store  *fakeStore
	set    *subscription.Set
	config subscription.Config
	log    *journal
	waits  bool // what is handed over waits before its handler begins
}

// bubble runs f in virtual time. Afterwards it ends all subscriptions, and fails
// if a goroutine is left or the ledger of the store tells of a broken promise.
func bubble(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		t.Cleanup(func() {
			r.set.Close()
			synctest.Wait()
			r.requirePromises()
			r.requireNothingHeld()
		})
		f(t, r)
	})
}

func newRig(t *testing.T) *rig {
	t.Helper()
	log := &journal{}
	return &rig{
		t: t, store: newFakeStore(), set: subscription.NewSet(), log: log,
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

// requireNothingHeld holds once all subscriptions have ended.
func (r *rig) requireNothingHeld() {
	r.t.Helper()
	counters := r.config.Counters
	require.Zero(r.t, counters.Waiting.Load(), "waiting")
	require.Zero(r.t, counters.InFlight.Load(), "in flight")
	require.Zero(r.t, counters.Unstored.Load(), "unstored")
}

func (r *rig) requirePromises() {
	r.t.Helper()
	s := newStory(r.store.read(), r.config.MaxExtension)
	s.waits = r.waits
	if broken := s.broken(); len(broken) > 0 {
		for _, e := range r.store.read() {
			r.t.Log(e)
		}
		r.t.Errorf("broken promises:\n%s", strings.Join(broken, "\n"))
	}
}

// consumer is one subscription, and whoever reads its channel.
type consumer struct {
	*view
	t        *testing.T
	messages <-chan *message.Message
}

// subscribe starts a subscription that ends with the test.
func (r *rig) subscribe() *consumer {
	r.t.Helper()
	return r.subscribeAs("A", r.t.Context())
}

func (r *rig) subscribeAs(who string, ctx context.Context) *consumer { //nolint:revive // who does what
	r.t.Helper()
	return r.start(ctx, r.store.viewOf(who))
}

// start starts a subscription to a store that has been told how to behave.
func (r *rig) start(ctx context.Context, v *view) *consumer {
	r.t.Helper()
	messages, err := r.set.Start(ctx, v, r.config)
	require.NoError(r.t, err)
	return &consumer{view: v, t: r.t, messages: messages}
}

// receive returns the next message, which must come within a day.
func (c *consumer) receive() *message.Message {
	c.t.Helper()
	timeout := time.NewTimer(24 * time.Hour)
	defer timeout.Stop()
	select {
	case msg, ok := <-c.messages:
		require.True(c.t, ok, "the subscription has ended")
		c.received(msg)
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
	c.note(event{kind: closed, who: c.who})
}

// requireLost waits until the context of msg has ended with ErrLeaseLost.
func requireLost(t *testing.T, msg *message.Message) {
	t.Helper()
	<-msg.Context().Done()
	require.ErrorIs(t, context.Cause(msg.Context()), backend.ErrLeaseLost)
}

// journal is a log that can be asked what is in it.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) Enabled(context.Context, slog.Level) bool { return true }
func (j *journal) WithAttrs([]slog.Attr) slog.Handler       { return j }
func (j *journal) WithGroup(string) slog.Handler            { return j }

func (j *journal) Handle(_ context.Context, record slog.Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	line := record.Message
	record.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	j.lines = append(j.lines, line)
	return nil
}

// count returns how often the log says so.
func (j *journal) count(part string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, line := range j.lines {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}
