package memory_test

import (
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

func TestPublish_RefusesUnsupportedTopicsAndHeaders(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	header := func(name, value string) func(*message.Message) string {
		return func(m *message.Message) string { m.Metadata.Set(name, value); return "t" }
	}
	topic := func(name string) func(*message.Message) string {
		return func(*message.Message) string { return name }
	}
	for why, publish := range map[string]func(*message.Message) (topic string){
		`header "ezq_uuid": the name is reserved for ezq: choose one that does not begin with ezq_`: header("ezq_uuid", "1"),

		`header "a": the value is not UTF-8 without NUL`:             header("a", "\x00"),
		`the headers: they have 65545 bytes, and the limit is 65536`: header("a", strings.Repeat("v", 64<<10)),
		`the topic: it is empty`:                                     topic(""),
		`the topic: it contains a NUL`:                               topic("a\x00"),
		`the topic: it has 1025 bytes, and the limit is 1024`:        topic(strings.Repeat("t", 1025)),

		`the UUID: it has 256 bytes, and the limit is 255`: func(m *message.Message) string { m.UUID = strings.Repeat("i", 256); return "t" },
	} {
		msg := message.NewMessage("", nil)
		topic := publish(msg)
		err := broker.Publish(topic, message.NewMessage("good", nil), msg)
		var refused *backend.RefusedError
		require.ErrorAs(t, err, &refused)
		require.ErrorContains(t, err, why)
	}
	require.NoError(t, broker.Publish(strings.Repeat("t", 1024)+"_dead", message.NewMessage("", nil)), "each topic has dead letters")
	_, err := broker.Subscribe(t.Context(), "\xff")
	require.ErrorContains(t, err, "the topic: it is not UTF-8")

	deadLetter := message.NewMessage("as Watermill's PoisonQueue publishes it", nil)
	deadLetter.Metadata = message.Metadata{"reason_poisoned": "no", "topic_poisoned": "t", "handler_poisoned": "h", "subscriber_poisoned": "s"}
	require.NoError(t, broker.Publish("poison", deadLetter))
}

func TestPublish_RefusesNilMessage(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	err := broker.Publish("t", message.NewMessage("good", nil), nil)
	var refused *backend.RefusedError
	require.ErrorAs(t, err, &refused)
	require.EqualError(t, err, `memory: publish to "t": the message: it is nil: publish what message.NewMessage returns`)
}

func TestBroker_WithoutAGroupTakesNoPatterns(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	for _, pattern := range []string{"orders.*", "#", "a.**.b"} {
		_, err := broker.Subscribe(t.Context(), pattern)
		require.ErrorIs(t, err, backend.ErrGroupRequired)
		require.ErrorContains(t, err, "set Config.Group")
		require.ErrorIs(t, broker.SubscribeInitialize(pattern), backend.ErrGroupRequired)
		err = broker.Publish(pattern, message.NewMessage("", nil))
		refused := (*backend.RefusedError)(nil)
		require.ErrorAs(t, err, &refused)
		require.ErrorContains(t, err, "publish to a topic that the pattern matches")
	}
	for _, topic := range []string{"C#", "orders.*_dead"} {
		messages, err := broker.Subscribe(t.Context(), topic)
		require.NoError(t, err)
		require.NoError(t, broker.Publish(topic, message.NewMessage(topic, nil)))
		msg := <-messages
		require.Equal(t, topic, msg.UUID)
		msg.Ack()
	}
	require.NoError(t, broker.Close())
}
