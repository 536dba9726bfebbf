package backend_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
)

func received(d *backend.Delivery) *message.Message {
	msg := message.NewMessage("id", nil)
	msg.SetContext(backend.WithDelivery(msg.Context(), d))
	return msg
}

func TestDeadLetter_RefusesNackedMessage(t *testing.T) {
	t.Parallel()
	d := &backend.Delivery{DeadLetters: true}
	msg := received(d)
	msg.Nack()
	if backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"}) {
		t.Error("DeadLetter says that it has given up a message that was nacked")
	}
	if v, ok := d.Disposition(); ok {
		t.Errorf("the backend is told %+v about a message that was nacked before", v)
	}
}

func TestNack_KeepsFirstOfSeveral(t *testing.T) {
	t.Parallel()
	d := &backend.Delivery{}
	msg := received(d)
	msg.Nack()
	if !backend.Nack(msg, backend.Redelivery{Delay: time.Hour}) {
		t.Error("Nack says that the message was acked")
	}
	if v, ok := d.Disposition(); ok {
		t.Errorf("the backend is told %+v about a message that was nacked before", v)
	}
}

func TestAck_RulesOutNackAndDeadLetter(t *testing.T) {
	t.Parallel()
	d := &backend.Delivery{DeadLetters: true}
	msg := received(d)
	msg.Ack()
	if backend.DeadLetter(msg, backend.DeadLetterTarget{}) || backend.Nack(msg, backend.Redelivery{}) {
		t.Error("an acked message was taken back")
	}
	if v, ok := d.Disposition(); ok {
		t.Errorf("the backend is told %+v about a message that was acked", v)
	}
}

func TestDelivery_CopyLeavesOutDisposition(t *testing.T) {
	t.Parallel()
	original := &backend.Delivery{
		Number: 3, Failures: 2, Done: []string{"one"}, PublishedAt: time.Now(), DeadLetters: true, Progress: true, Receipt: "proof",
	}
	msg := message.NewMessage("id", nil)
	msg.SetContext(backend.WithDelivery(t.Context(), original))
	want := original.Copy()
	require.Equal(t, original, want)
	require.True(t, backend.Nack(msg, backend.Redelivery{Delay: time.Second}))
	_, decided := original.Copy().Disposition()
	require.False(t, decided)
}
