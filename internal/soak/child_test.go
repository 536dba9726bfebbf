package soak_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/ledger"
	"github.com/ezq-go/ezq/middleware"
)

// childVariable makes the test binary a consumer in a process of its own. Its value is the URL of
// the database. Where archiveVariable is set, it archives what it has acked.
const (
	childVariable   = "EZQ_SOAK_CHILD"
	archiveVariable = "EZQ_SOAK_ARCHIVE"
)

// lease is short, so that some leases run out.
const lease = 3 * time.Second

// consume is what such a process does, until SIGTERM: it handles the events of all topics, and
// writes a line for each delivery before its ack.
func consume(url string) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	before := runtime.NumGoroutine()
	client, err := pgmq.Open(ctx, url, &pgmq.Config{
		Subscriber: pgmq.SubscriberConfig{Lease: lease, Archive: os.Getenv(archiveVariable) != ""}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	router := ezq.NewRouter(client, &ezq.Config{Concurrency: 20, Logger: slog.New(slog.DiscardHandler)})
	router.Use(middleware.Poison{Logger: slog.New(slog.DiscardHandler)}.Middleware)
	for _, topic := range []string{plain, shaken, failing, dropped, outbox, purged} {
		ezq.Handle(router, handle(topic), ezq.Topic(topic))
	}
	ezq.Handle(router, handleInTx, ezq.Topic(inTx), ezq.Use(client.TxMiddleware()))
	ended := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() { printReady(router, ended) })
	err = errors.Join(router.Run(ctx), client.Close())
	close(ended)
	if telling.Wait(); err != nil {
		return err
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; pause(time.Millisecond) {
		if time.Now().After(deadline) {
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
			return fmt.Errorf("%d goroutines are left, there were %d", runtime.NumGoroutine(), before)
		}
	}
	return nil
}

// printReady tells when the router is subscribed to all topics. Before that a fault ends it, as Run says.
func printReady(router *ezq.Router, ended <-chan struct{}) {
	for router.Ready() != nil {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ended:
			return
		}
	}
	printLine("ready")
}

type happened struct{ ID string }

// Of the events one of so many is handled for longer than a lock lasts, or for longer than a lease,
// or fails for good, or fails once.
const (
	leased   = 5
	slow     = 200
	fails    = 10
	stumbles = 7
)

// printLine tells the parent. Nothing is buffered, so that SIGKILL hides nothing.
func printLine(words ...any) { _, _ = fmt.Fprintln(os.Stdout, words...) }

var (
	errForGood = errors.New("this event fails for good")
	errAtFirst = errors.New("this event fails at first")
)

func handle(topic string) func(ctx context.Context, e happened) error {
	return func(ctx context.Context, e happened) error {
		printLine("delivered", topic, e.ID)
		if topic == failing && oneIn(fails, e.ID) {
			return ezq.Permanent(errForGood)
		}
		if topic == purged && oneIn(stumbles, e.ID) && ezq.MetaFromContext(ctx).Failures == 0 {
			printLine("nacked", topic, e.ID)
			return errAtFirst
		}
		timer := time.NewTimer(work(topic, e.ID))
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), backend.ErrLeaseLost) {
				printLine("lost", topic, e.ID)
			}
			return context.Cause(ctx)
		}
	}
}

func work(topic, id string) time.Duration {
	switch {
	case topic == plain && strings.HasSuffix(id, "-2000"), topic == shaken && oneIn(slow, id):
		return lease + time.Second
	case topic == shaken && oneIn(leased, id):
		return 300 * time.Millisecond
	}
	return 2 * time.Millisecond
}

func handleInTx(ctx context.Context, e happened) error {
	printLine("delivered", inTx, e.ID)
	_, err := pgmq.TxFromContext(ctx).Exec(ctx, "insert into effects (id) values ($1)", e.ID)
	return err
}

// child is a consumer in a process of its own.
type child struct {
	*exec.Cmd
	name    string
	far     bool // from the server, so that it takes a while to get there
	ready   chan struct{}
	ended   chan struct{} // closed when it writes no more
	reading sync.WaitGroup
	errors  strings.Builder
}

// startChild starts a consumer, and returns when it has subscribed. The one that is far from
// the server archives. While the storm has revoked a privilege, none can.
func (s *soak) startChild(far bool) *child {
	s.Helper()
	for deadline := time.Now().Add(patience); ; pause(100 * time.Millisecond) {
		c := s.tryChild(far)
		select {
		case <-c.ready:
			return c
		case <-c.ended:
			if _ = c.Wait(); strings.Contains(c.errors.String(), "permission denied") && time.Now().Before(deadline) {
				continue
			}
		case <-time.After(time.Until(deadline)):
		}
		s.Fatalf("%s does not start: %s", c.name, &c.errors)
	}
}

func (s *soak) tryChild(far bool) *child {
	s.Helper()
	self, err := os.Executable()
	require.NoError(s, err)
	s.children++
	c := &child{Cmd: exec.Command(self), name: fmt.Sprint("consumer ", s.children), far: far, ready: make(chan struct{}), ended: make(chan struct{})}
	c.Env = append(os.Environ(), childVariable+"="+s.url(s.proxy))
	if far {
		c.Env = append(os.Environ(), childVariable+"="+s.url(s.farProxy), archiveVariable+"=1")
	}
	c.Stderr = &c.errors
	out, err := c.StdoutPipe()
	require.NoError(s, err)
	require.NoError(s, c.Start())
	s.Cleanup(func() { _ = c.Process.Kill() }) // it has ended, unless the test has failed
	c.reading.Go(func() {
		defer close(c.ended)
		s.read(c, out)
	})
	return c
}

func (s *soak) read(c *child, out io.Reader) {
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		words := strings.Fields(scanner.Text())
		switch {
		case words[0] == "ready":
			close(c.ready)
		case len(words) == 3 && words[0] == "delivered":
			s.ledger(words[1]).Delivered(words[2], c.name)
		case len(words) == 3 && words[0] == "nacked":
			s.ledger(words[1]).Returned(words[2], c.name, ledger.Nacked)
		case len(words) == 3 && words[0] == "lost" && !s.leasesSafe.Load():
			s.ledger(words[1]).Returned(words[2], c.name, "the lease was lost")
		}
	}
}

// end waits until the process of c is gone, and all that it has written was read.
func (c *child) end() error {
	c.reading.Wait()
	return c.Wait()
}

// terminate ends c as a deployment does, and requires that it ends in order.
func (s *soak) terminate(c *child) {
	s.Helper()
	require.NoError(s, c.Process.Signal(syscall.SIGTERM))
	require.NoError(s, c.end(), "%s: %s", c.name, &c.errors)
}
