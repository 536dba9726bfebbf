package memory_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

func Example() {
	broker := memory.New(nil)
	ctx, stop := context.WithCancel(context.Background())
	messages, _ := broker.Subscribe(ctx, "greetings")

	_ = broker.Publish("greetings", message.NewMessage("1", []byte("hello")))
	msg := <-messages
	fmt.Println(string(msg.Payload))
	msg.Ack()

	stop()
	_ = broker.Close()
	// Output: hello
}

// bubble runs f with a queue in virtual time, and fails if a goroutine is left.
func bubble(t *testing.T, config memory.Config, f func(t *testing.T, broker *memory.Broker)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		config.Logger = slog.New(slog.DiscardHandler)
		broker := memory.New(&config)
		f(t, broker)
		require.NoError(t, broker.Close())
	})
}

func publish(t *testing.T, publisher message.Publisher, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		require.NoError(t, publisher.Publish("t", message.NewMessage(p, []byte(p))))
	}
}

func subscribe(t *testing.T, subscriber message.Subscriber) <-chan *message.Message {
	t.Helper()
	messages, err := subscriber.Subscribe(t.Context(), "t")
	require.NoError(t, err)
	return messages
}

// receive returns the next message. In a bubble it cannot wait in vain: that is
// a deadlock, which ends the test.
func receive(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	msg, ok := <-messages
	require.True(t, ok, "the subscription has ended")
	return msg
}

func requireNone(t *testing.T, messages <-chan *message.Message) {
	t.Helper()
	synctest.Wait()
	select {
	case msg := <-messages:
		t.Fatalf("received %q", msg.Payload)
	default:
	}
}

func delivery(msg *message.Message) *backend.Delivery {
	return backend.DeliveryFromContext(msg.Context())
}

func TestAck_RemovesMessage(t *testing.T) {
	bubble(t, memory.Config{}, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, "a")
		messages := subscribe(t, broker)
		require.True(t, receive(t, messages).Ack())
		time.Sleep(24 * time.Hour)
		requireNone(t, messages)
	})
}

func TestNack_RedeliversMessage(t *testing.T) {
	bubble(t, memory.Config{NackDelay: time.Minute}, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, "a")
		messages := subscribe(t, broker)
		start := time.Now()

		first := receive(t, messages)
		require.Equal(t, 1, delivery(first).Number)
		require.Equal(t, start, delivery(first).PublishedAt)
		first.Nack()
		second := receive(t, messages)
		require.Equal(t, time.Minute, time.Since(start), "after NackDelay")
		require.Equal(t, first.UUID, second.UUID)
		require.Equal(t, 2, delivery(second).Number)
		require.Equal(t, 1, delivery(second).Failures)

		backend.Nack(second, backend.Redelivery{Delay: time.Hour, Failures: 7, Done: []string{"one"}})
		third := receive(t, messages)
		require.Equal(t, time.Hour+time.Minute, time.Since(start), "or as the nack asked")
		require.Equal(t, 3, delivery(third).Number)
		require.Equal(t, 7, delivery(third).Failures)
		require.Equal(t, []string{"one"}, delivery(third).Done)

		backend.SetDelay(third, time.Second)
		third.Nack()
		fourth := receive(t, messages)
		require.Equal(t, time.Hour+time.Minute+time.Second, time.Since(start), "or as its metadata did")
		fourth.Ack()
	})
}

func TestDeadLetter_MovesInOneStep(t *testing.T) {
	bubble(t, memory.Config{MaxExtension: time.Minute}, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, "a")
		zombie := receive(t, subscribe(t, broker))
		time.Sleep(2 * time.Minute)
		target := backend.DeadLetterTarget{Topic: "dead", Metadata: message.Metadata{backend.DeadLetterReason: "boom"}}
		require.True(t, backend.DeadLetter(zombie, target))
		dead, err := broker.Subscribe(t.Context(), "dead")
		require.NoError(t, err)
		requireNone(t, dead) // the lease was lost

		msg := receive(t, subscribe(t, broker))
		require.True(t, backend.DeadLetter(msg, target))
		require.False(t, msg.Ack())
		moved := receive(t, dead)
		require.Equal(t, "a", moved.UUID)
		require.Equal(t, "a", string(moved.Payload))
		require.Equal(t, target.Metadata, moved.Metadata)
		require.Equal(t, 1, delivery(moved).Number)
		moved.Ack()
	})
}

func TestDelay_PostponesDelivery(t *testing.T) {
	bubble(t, memory.Config{}, func(t *testing.T, broker *memory.Broker) {
		start := time.Now()
		messages := subscribe(t, broker)
		after, at := message.NewMessage("after", nil), message.NewMessage("at", nil)
		backend.SetDelay(after, 90*time.Second)
		backend.SetDeliverAt(at, start.Add(1500*time.Millisecond))
		require.NoError(t, broker.Publish("t", after, at))
		publish(t, broker, "now")

		for _, want := range []struct {
			uuid string
			at   time.Duration
		}{{"now", 0}, {"at", 1500 * time.Millisecond}, {"after", 90 * time.Second}} {
			msg := receive(t, messages)
			require.Equal(t, want.uuid, msg.UUID)
			require.Equal(t, want.at, time.Since(start))
			require.Empty(t, msg.Metadata, "the delay is not passed on")
			msg.Ack()
		}
	})
}

func TestDelay_RefusesInvalidDuration(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	good, bad := message.NewMessage("good", nil), message.NewMessage("bad", nil)
	bad.Metadata.Set("_watermill_delayed_for", "soon")
	require.ErrorContains(t, broker.Publish("t", good, bad), `"soon" is not a duration`)
	requireNoMessages(t, broker)
}

func requireNoMessages(t *testing.T, broker *memory.Broker) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	messages, err := broker.Subscribe(ctx, "t")
	require.NoError(t, err)
	stop()
	for msg := range messages {
		t.Fatalf("received %q", msg.UUID)
	}
}

func TestSubscribe_SharesMessagesAmongConsumers(t *testing.T) {
	bubble(t, memory.Config{MaxInFlight: 1}, func(t *testing.T, broker *memory.Broker) {
		one, two := subscribe(t, broker), subscribe(t, broker)
		publish(t, broker, "a", "b")
		a, b := receive(t, one), receive(t, two)
		require.NotEqual(t, a.UUID, b.UUID)
		a.Ack()
		b.Ack()
		requireNone(t, one)
		requireNone(t, two)
	})
}

func TestMaxInFlight_OfOneKeepsOrder(t *testing.T) {
	bubble(t, memory.Config{MaxInFlight: 1}, func(t *testing.T, broker *memory.Broker) {
		messages := subscribe(t, broker)
		for i := range 100 {
			publish(t, broker, fmt.Sprint(i))
		}
		for i := range 100 {
			msg := receive(t, messages)
			require.Equal(t, fmt.Sprint(i), msg.UUID)
			requireNone(t, messages)
			msg.Ack()
		}
	})
}

func TestBroker_IsolatesStoredMessages(t *testing.T) {
	bubble(t, memory.Config{}, func(t *testing.T, broker *memory.Broker) {
		published := message.NewMessage("a", []byte("payload"))
		published.Metadata.Set("k", "v")
		require.NoError(t, broker.Publish("t", published))
		change := func(msg *message.Message) {
			msg.Payload[0] = 'X'
			msg.Metadata.Set("k", "changed")
		}
		change(published)
		messages := subscribe(t, broker)
		for range 2 {
			msg := receive(t, messages)
			require.Equal(t, "payload", string(msg.Payload))
			require.Equal(t, message.Metadata{"k": "v"}, msg.Metadata)
			change(msg)
			msg.Nack()
		}
		receive(t, messages).Ack()
	})
}

func TestLease_IsExtendedWhileHandlerRuns(t *testing.T) {
	bubble(t, memory.Config{}, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, "a")
		messages := subscribe(t, broker)
		msg := receive(t, messages)
		time.Sleep(59 * time.Minute)
		require.NoError(t, msg.Context().Err())
		requireNone(t, messages)
		msg.Ack()
	})
}

func TestMaxExtension_EndsLeaseOfSlowHandler(t *testing.T) {
	bubble(t, memory.Config{MaxExtension: time.Minute}, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, "a")
		messages := subscribe(t, broker)
		start := time.Now()
		zombie := receive(t, messages)
		<-zombie.Context().Done()
		require.Equal(t, time.Minute, time.Since(start))
		require.ErrorIs(t, context.Cause(zombie.Context()), backend.ErrLeaseLost)

		msg := receive(t, messages)
		require.LessOrEqual(t, time.Since(start), time.Minute+30*time.Second)
		require.Equal(t, 2, delivery(msg).Number)
		require.Zero(t, delivery(msg).Failures)
		zombie.Ack()
		synctest.Wait()
		msg.Nack()
		last := receive(t, messages)
		require.Equal(t, 3, delivery(last).Number, "the late ack removed nothing")
		last.Ack()
	})
}

func TestClose_ReleasesAndDrainsMessages(t *testing.T) {
	t.Run("Close releases what was not handed over", func(t *testing.T) {
		bubble(t, memory.Config{}, func(t *testing.T, broker *memory.Broker) {
			beside := broker.Connect(nil)
			publish(t, broker, "a", "b")
			subscribe(t, beside)
			synctest.Wait()
			require.NoError(t, beside.Close())
			messages := subscribe(t, broker)
			for range 2 {
				msg := receive(t, messages)
				require.Equal(t, 1, delivery(msg).Number, "it was never delivered")
				msg.Ack()
			}
		})
	})
	t.Run("Close waits for handlers, whose contexts stay alive", func(t *testing.T) {
		bubble(t, memory.Config{DrainTimeout: time.Minute}, func(t *testing.T, broker *memory.Broker) {
			publish(t, broker, "a")
			messages := subscribe(t, broker)
			msg := receive(t, messages)
			start := time.Now()
			time.AfterFunc(30*time.Second, func() {
				if msg.Context().Err() != nil {
					t.Error("the context ended while draining")
				}
				msg.Ack()
			})
			require.NoError(t, broker.Close())
			require.Equal(t, 30*time.Second, time.Since(start))
			_, open := <-messages
			require.False(t, open)
		})
	})
	t.Run("Close interrupts handlers that take longer than DrainTimeout", func(t *testing.T) {
		bubble(t, memory.Config{DrainTimeout: time.Minute}, func(t *testing.T, broker *memory.Broker) {
			publish(t, broker, "a")
			msg := receive(t, subscribe(t, broker))
			start := time.Now()
			require.NoError(t, broker.Close())
			require.Equal(t, time.Minute+5*time.Second, time.Since(start))
			require.ErrorIs(t, context.Cause(msg.Context()), backend.ErrInterrupted)
		})
	})
	t.Run("Close may be called twice at once, with messages that are not received", func(t *testing.T) {
		bubble(t, memory.Config{}, func(t *testing.T, broker *memory.Broker) {
			publish(t, broker, "a")
			subscribe(t, broker)
			var closers sync.WaitGroup
			for range 10 {
				closers.Go(func() { _ = broker.Close() })
			}
			closers.Wait()
			_, err := broker.Subscribe(t.Context(), "t")
			require.ErrorIs(t, err, backend.ErrClosed)
			require.ErrorIs(t, broker.Publish("t"), backend.ErrClosed)
			require.ErrorIs(t, broker.SubscribeInitialize("t"), backend.ErrClosed)
		})
	})
}

func TestSubscription_EndsWithoutAffectingOthers(t *testing.T) {
	bubble(t, memory.Config{}, func(t *testing.T, broker *memory.Broker) {
		ctx, stop := context.WithCancel(t.Context())
		ending, err := broker.Subscribe(ctx, "t")
		require.NoError(t, err)
		messages := subscribe(t, broker)
		stop()
		_, open := <-ending
		require.False(t, open)
		publish(t, broker, "a")
		receive(t, messages).Ack()
	})
}

func TestConfig_InvalidIsErrorOfPublishAndSubscribe(t *testing.T) {
	t.Parallel()
	for want, config := range map[string]memory.Config{
		"memory: Config.MaxInFlight is -1: use a positive number, or 0 for the default":      {MaxInFlight: -1},
		"memory: Config.NackDelay is -1ns: use a positive duration, or 0 for the default":    {NackDelay: -1},
		"memory: Config.Lease is -1ns: use a positive duration, or 0 for the default":        {Lease: -1},
		"memory: Config.MaxExtension is -1ns: use a positive duration, or 0 for the default": {MaxExtension: -1},
		"memory: Config.DrainTimeout is -1s: use a positive duration, or 0 for the default":  {DrainTimeout: -time.Second},
	} {
		for _, broker := range []*memory.Broker{memory.New(&config), memory.New(nil).Connect(&config)} {
			require.EqualError(t, broker.Publish("t", message.NewMessage("1", nil)), want)
			require.EqualError(t, broker.SubscribeInitialize("t"), want)
			_, err := broker.Subscribe(t.Context(), "t")
			require.EqualError(t, err, want)
			require.NoError(t, broker.Close())
		}
	}
}

func BenchmarkPublishAndReceive(b *testing.B) {
	broker := memory.New(nil)
	messages, err := broker.Subscribe(b.Context(), "t")
	require.NoError(b, err)
	payload := make([]byte, 256)
	b.ReportAllocs()
	for range b.N {
		_ = broker.Publish("t", message.NewMessage("1", payload))
		(<-messages).Ack()
	}
	require.NoError(b, broker.Close())
}
