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

func TestUnchanged_RecordsWhatWasRecorded(t *testing.T) {
	t.Parallel()
	since := time.Now()
	d := &backend.Delivery{Number: 3, Failures: 2, Done: []string{"one"}, UnknownSince: since, PublishedAt: since, Receipt: "proof"}
	require.Equal(t, backend.Redelivery{Failures: 2, Done: []string{"one"}, UnknownSince: since}, d.Unchanged())
	require.Zero(t, (*backend.Delivery)(nil).Unchanged(), "of a backend that says nothing about deliveries")
}

func TestDisposition_HasTargetOrFallback(t *testing.T) {
	t.Parallel()
	d := &backend.Delivery{DeadLetters: true}
	require.True(t, backend.Nack(received(d), backend.Redelivery{Delay: time.Second}))
	disposition, ok := d.Disposition()
	require.True(t, ok)
	require.Equal(t, backend.Disposition{Fallback: backend.Redelivery{Delay: time.Second}}, disposition)

	d = &backend.Delivery{DeadLetters: true}
	require.True(t, backend.DeadLetter(received(d), backend.DeadLetterTarget{Topic: "dead"}))
	disposition, ok = d.Disposition()
	require.True(t, ok)
	require.Equal(t, backend.Disposition{Target: &backend.DeadLetterTarget{Topic: "dead"}}, disposition)
}

func TestNacked_TellsNackFromAck(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settle func(*message.Message)
		want   bool
	}{
		"not settled":     {func(*message.Message) {}, false},
		"acked":           {func(msg *message.Message) { msg.Ack() }, false},
		"nacked":          {func(msg *message.Message) { msg.Nack() }, true},
		"released":        {func(msg *message.Message) { backend.Release(msg) }, true},
		"dead-lettered":   {func(msg *message.Message) { backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"}) }, true},
		"nacked too late": {func(msg *message.Message) { msg.Ack(); msg.Nack() }, false},
	} {
		msg := received(&backend.Delivery{DeadLetters: true})
		test.settle(msg)
		require.Equal(t, test.want, backend.Nacked(msg), name)
	}
}

func TestExclusive_IsTrueUnlessSaidOtherwise(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	require.True(t, backend.ExclusiveFromContext(ctx))
	several := backend.WithExclusive(ctx, false)
	require.False(t, backend.ExclusiveFromContext(several))
	require.True(t, backend.ExclusiveFromContext(backend.WithExclusive(several, true)))
}
