package pgmq_test

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
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
)

// Some tests stop and kill consumers in processes of their own. Such a process is the test binary
// with these variables.
const (
	childVariable         = "EZQ_TEST_CHILD"          // what it does, as children names it
	childDatabaseVariable = "EZQ_TEST_CHILD_DATABASE" // the URL of its database
	childOutcomeVariable  = "EZQ_TEST_CHILD_OUTCOME"  // for settlesMessage
)

const (
	settlesMessage  = "settles a message"
	locksMessage    = "locks a message"
	handlesMessages = "handles messages"
)

// children are the programs of such processes.
func children() map[string]func(context.Context, *pgmq.Client) error {
	return map[string]func(context.Context, *pgmq.Client) error{
		settlesMessage:  settleMessage,
		locksMessage:    lockMessage,
		handlesMessages: handleMessages,
	}
}

func TestMain(m *testing.M) {
	name := os.Getenv(childVariable)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := runChild(name); err != nil {
		fmt.Fprintf(os.Stderr, "the process that %s: %v\n", name, err)
		os.Exit(1)
	}
}

// runChild runs a program no longer than a test waits, so that none outlives its test for long.
func runChild(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	lease := time.Second
	if name == handlesMessages {
		lease = 5 * time.Second // which a busy machine loses for no process that lives
	}
	client, err := pgmq.Open(ctx, os.Getenv(childDatabaseVariable), &pgmq.Config{
		Subscriber: pgmq.SubscriberConfig{Lease: lease, MaxInFlight: 20, DrainTimeout: 100 * time.Millisecond},
		Logger:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	return errors.Join(children()[name](ctx, client), client.Close())
}

// settleMessage takes one message, and settles it when it is continued after a stop.
func settleMessage(ctx context.Context, client *pgmq.Client) error {
	messages, err := client.Subscribe(ctx, "t")
	if err != nil {
		return err
	}
	msg := <-messages
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	delivered(msg.UUID)
	<-continued
	switch os.Getenv(childOutcomeVariable) {
	case "ack":
		msg.Ack()
	case "nack":
		msg.Nack()
	case "dead letter":
		backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"})
	case "extend": // as all leases are, by themselves
		<-msg.Context().Done()
		delivered(fmt.Sprint(context.Cause(msg.Context())))
	}
	err = client.Close()
	delivered("closed")
	return err
}

// lockMessage locks one message, and acks it when it is continued after a stop.
func lockMessage(ctx context.Context, client *pgmq.Client) error {
	client.LockFor(time.Hour)
	messages, err := client.Subscribe(ctx, "t")
	if err != nil {
		return err
	}
	for range 10 { // acked soon, so that the next one is locked
		if err := client.Publish("t", message.NewMessage("before", nil)); err != nil {
			return err
		}
		(<-messages).Ack()
	}
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	delivered("warm")
	msg := <-messages
	delivered(msg.UUID)
	<-continued
	msg.Ack()
	err = client.Close()
	delivered("closed")
	return err
}

// handleMessages handles messages with a router until SIGTERM.
func handleMessages(ctx context.Context, client *pgmq.Client) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	router := ezq.NewRouter(client, &ezq.Config{Concurrency: 20, Logger: slog.New(slog.DiscardHandler)})
	ezq.Handle(router, func(_ context.Context, e userCreated) error {
		delivered(e.Email)
		wait := time.NewTimer(5 * time.Millisecond)
		<-wait.C
		return nil
	})
	return router.Run(ctx)
}

// delivered tells the parent. Nothing is buffered, so that SIGKILL hides nothing.
func delivered(id string) { _, _ = fmt.Fprintln(os.Stdout, "delivered "+id) }

// child is such a process.
type child struct {
	*exec.Cmd
	lines chan string // what it writes, a line for each delivery before its ack
}

// startChild starts the program of that name.
func startChild(t *testing.T, name, database string, environment ...string) *child {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	c := &child{Cmd: exec.Command(self), lines: make(chan string, 10_000)}
	c.Env = append(append(os.Environ(), childVariable+"="+name, childDatabaseVariable+"="+database), environment...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		_ = c.Process.Kill() // it may have ended
		_ = c.Wait()
	})
	go c.read(out)
	return c
}

func (c *child) read(out io.Reader) {
	defer close(c.lines)
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		if id, ok := strings.CutPrefix(scanner.Text(), "delivered "); ok {
			c.lines <- id
		}
	}
}

// next returns the next delivery.
func (c *child) next(t *testing.T) string {
	t.Helper()
	select {
	case id, ok := <-c.lines:
		require.True(t, ok, "the child has ended")
		return id
	case <-time.After(patience):
		require.Fail(t, "the child got nothing")
		return ""
	}
}

func (c *child) signal(t *testing.T, signal os.Signal) {
	t.Helper()
	require.NoError(t, c.Process.Signal(signal))
}

// ended waits until the child is gone.
func (c *child) ended(t *testing.T) (delivered []string) {
	t.Helper()
	for id := range c.lines {
		delivered = append(delivered, id)
	}
	_ = c.Wait()
	return delivered
}
