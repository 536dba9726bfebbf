package ezq_test

import (
	"context"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/components/delay"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// recordingPublisher is a publisher that records what it is to send. It promises to
// delay messages.
type recordingPublisher struct {
	calls []call
	err   error
}

type call struct {
	topic string
	msgs  []*message.Message
}

func (p *recordingPublisher) Publish(topic string, msgs ...*message.Message) error {
	p.calls = append(p.calls, call{topic, msgs})
	return p.err
}

func (p *recordingPublisher) Close() error               { return nil }
func (p *recordingPublisher) Features() backend.Features { return backend.Features{Delay: true} }

// sent returns the one message of the one call.
func (p *recordingPublisher) sent(t *testing.T) (topic string, msg *message.Message) {
	t.Helper()
	require.Len(t, p.calls, 1)
	require.Len(t, p.calls[0].msgs, 1)
	return p.calls[0].topic, p.calls[0].msgs[0]
}

// plainPublisher promises nothing.
type plainPublisher struct{ message.Publisher }

type UserDeleted struct{ ID int }

func TestPublish_SendsOneMessage(t *testing.T) {
	t.Parallel()
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "value")
	var p recordingPublisher
	require.NoError(t, ezq.Publish(ctx, &p, UserDeleted{ID: 7}))
	topic, msg := p.sent(t)
	require.Equal(t, ezq.DefaultTopic, topic)
	require.Equal(t, `{"_type":"UserDeleted","ID":7}`, string(msg.Payload))
	require.Equal(t, message.Metadata{"content-type": "application/json"}, msg.Metadata)
	require.NoError(t, uuid.Validate(msg.UUID))
	require.Equal(t, "value", msg.Context().Value(key{}))
}

func TestPublishBatch_AppliesOptionsToEveryEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p recordingPublisher
		require.NoError(t, ezq.PublishBatch(t.Context(), &p, []UserDeleted{{1}, {2}},
			ezq.Topic("users"), ezq.Delay(90*time.Second), ezq.Header("tenant", "a"), ezq.Header("tenant", "b"), ezq.Header("empty", "")))
		require.Len(t, p.calls, 1)
		require.Equal(t, "users", p.calls[0].topic)
		for _, msg := range p.calls[0].msgs {
			d, _, err := backend.DelayOf(msg)
			require.NoError(t, err)
			require.Equal(t, 90*time.Second, d)
			require.Equal(t, "b", msg.Metadata["tenant"])
			require.Contains(t, msg.Metadata, "empty")
		}
		msgs := p.calls[0].msgs
		require.NotEqual(t, msgs[0].UUID, msgs[1].UUID)
		msgs[0].Metadata["tenant"] = "c"
		require.Equal(t, "b", msgs[1].Metadata["tenant"], "messages share nothing")
	})
}

func TestAt_IsAbsoluteTime(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{
		time.Date(2031, 1, 2, 3, 4, 5, 678901234, time.FixedZone("", -5*3600)),
		time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
	} {
		var p recordingPublisher
		require.NoError(t, ezq.Publish(t.Context(), &p, UserDeleted{}, ezq.At(at)))
		_, msg := p.sent(t)
		d, got, err := backend.DelayOf(msg)
		require.NoError(t, err)
		require.Zero(t, d)
		require.True(t, at.Equal(got))
	}
}

func TestDelay_OfZeroWorksOnEveryPublisher(t *testing.T) {
	t.Parallel()
	var p recordingPublisher
	require.NoError(t, ezq.Publish(t.Context(), plainPublisher{&p}, UserDeleted{}, ezq.Delay(0)))
	_, msg := p.sent(t)
	require.Equal(t, message.Metadata{"content-type": "application/json"}, msg.Metadata)
}

func TestDelay_IsUnsupportedOnPlainPublisher(t *testing.T) {
	t.Parallel()
	for _, opt := range []ezq.PublishOption{ezq.Delay(1), ezq.At(time.Unix(0, 0))} {
		var p recordingPublisher
		err := ezq.Publish(t.Context(), plainPublisher{&p}, UserDeleted{}, opt)
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.EqualError(t, err, `ezq: publish UserDeleted to "ezq": ezq_test.plainPublisher cannot delay events: publish with PGMQ or memory, or leave Delay and At out: unsupported operation`)
		require.Empty(t, p.calls)
	}
}

func TestPublish_WithInvalidOptionSendsNothing(t *testing.T) {
	t.Parallel()
	for why, opts := range map[string][]ezq.PublishOption{
		`to "": the topic is empty: name one, or leave Topic out for "ezq"`:                         {ezq.Topic("")},
		`to "users": option 2 of 2 is nil: leave it out`:                                            {ezq.Topic("users"), nil},
		`to "users": the delay -1ns is negative`:                                                    {ezq.Topic("users"), ezq.Delay(-1)},
		`Delay and At exclude each other`:                                                           {ezq.Delay(0), ezq.At(time.Unix(1, 0))},
		`At: the time is zero`:                                                                      {ezq.At(time.Time{})},
		`At: year 10000 is out of range [0, 9999]`:                                                  {ezq.At(time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -3600)))},
		`At: year -1 is out of range [0, 9999]`:                                                     {ezq.At(time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC))},
		`header "": it has no name: choose another one`:                                             {ezq.Header("", "value")},
		`header "a\x00": the name is not UTF-8 without NUL`:                                         {ezq.Header("a\x00", "value")},
		`header "\xff": the name is not UTF-8 without NUL`:                                          {ezq.Header("\xff", "value")},
		`header "a": the value is not UTF-8 without NUL: encode it`:                                 {ezq.Header("a", "\x00")},
		`header "b": the value is not UTF-8 without NUL: encode it`:                                 {ezq.Header("a", ""), ezq.Header("b", "\xff")},
		`header "ezq_id": the name is reserved for ezq`:                                             {ezq.Header("ezq_id", "1")},
		`header "content-type": the name is reserved for ezq`:                                       {ezq.Header("content-type", "text/plain")},
		`header "_watermill_delayed_for": the name is Watermill's, for delays: use Delay or At`:     {ezq.Header(delay.DelayedForKey, "1s")},
		`header "_watermill_delayed_until": the name is Watermill's, for delays: use Delay or At`:   {ezq.Header(delay.DelayedUntilKey, "now")},
		`header "correlation_id": the value has 256 bytes, and the limit is 255: use a shorter one`: {ezq.Header("correlation_id", strings.Repeat("c", 256))},
	} {
		var p recordingPublisher
		err := ezq.Publish(t.Context(), &p, UserDeleted{}, opts...)
		require.ErrorContains(t, err, "ezq: publish UserDeleted to ")
		require.ErrorContains(t, err, why)
		require.Empty(t, p.calls)
	}
}

func TestHeader_RefusesNamesOfDeadLetters(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		backend.DeadLetterTopic, backend.DeadLetterReason, backend.DeadLetterHandler, backend.DeadLetterFailures, backend.DeadLetterAt,
		"subscriber_poisoned", // Watermill's
	} {
		var p recordingPublisher
		want := &backend.RefusedError{
			What:   "header " + strconv.Quote(name),
			Reason: "the name is reserved for dead letters, which the event would pass for",
			Remedy: "choose another one",
		}
		for _, err := range []error{
			ezq.Publish(t.Context(), &p, UserDeleted{}, ezq.Header(name, "payments")),
			ezq.PublishBatch(t.Context(), &p, []UserDeleted{{}, {}}, ezq.Header(name, "payments")),
		} {
			var refused *backend.RefusedError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, want, refused)
		}
		require.Empty(t, p.calls)
	}
}

func TestCorrelationID_WhenLongIsRefused(t *testing.T) {
	t.Parallel()
	var p recordingPublisher
	ctx := ezq.WithCorrelationID(t.Context(), strings.Repeat("c", 256))
	require.ErrorContains(t, ezq.Publish(ctx, &p, UserDeleted{}), `header "correlation_id": the value has 256 bytes, and the limit is 255`)
	require.Empty(t, p.calls)
	require.NoError(t, ezq.Publish(ctx, &p, UserDeleted{}, ezq.Header("correlation_id", "short")), "a header wins")
}

func TestPublishBatch_IsOneCall(t *testing.T) {
	t.Parallel()
	var p recordingPublisher
	require.NoError(t, ezq.PublishBatch(t.Context(), &p, []any{UserDeleted{1}, &UserDeleted{2}, ezq.EndEvent{Timeout: time.Second}}))
	require.Len(t, p.calls, 1)
	var wire []string
	for _, msg := range p.calls[0].msgs {
		wire = append(wire, string(msg.Payload))
	}
	require.Equal(t, []string{`{"_type":"UserDeleted","ID":1}`, `{"_type":"UserDeleted","ID":2}`, `{"_type":"EZQEndEvent","timeout":1.0}`}, wire)
}

func TestPublishBatch_WhenEmptyMakesNoCall(t *testing.T) {
	t.Parallel()
	var p recordingPublisher
	require.NoError(t, ezq.PublishBatch(t.Context(), &p, []UserDeleted{}))
	require.NoError(t, ezq.PublishBatch[any](t.Context(), &p, nil))
	require.Empty(t, p.calls)
}

func TestPublishBatch_WithBadEventSendsNothing(t *testing.T) {
	t.Parallel()
	type Reading struct{ Value float64 }
	for want, events := range map[string][]any{
		`ezq: publish 3 events to "ezq": event 3 of 3: event type nil is not an event: publish a value`:         {UserDeleted{}, UserDeleted{}, nil},
		`ezq: publish 2 events to "ezq": event 1 of 2, Reading: json: unsupported value: NaN`:                   {Reading{math.NaN()}, UserDeleted{}},
		`ezq: publish Reading to "ezq": json: unsupported value: NaN`:                                           {Reading{math.NaN()}},
		`ezq: publish an event to "ezq": event type *ezq_test.UserDeleted is nil: publish a value`:              {(*UserDeleted)(nil)},
		`ezq: publish an event to "ezq": event type []ezq_test.UserDeleted is several events: use PublishBatch`: {[]UserDeleted{{1}}},
	} {
		var p recordingPublisher
		require.EqualError(t, ezq.PublishBatch(t.Context(), &p, events), want)
		require.Empty(t, p.calls)
	}
	var refused *ezq.EventTypeError
	require.ErrorAs(t, ezq.Publish(t.Context(), &recordingPublisher{}, struct{}{}), &refused)
	require.Equal(t, "struct {}", refused.Type)
}

func TestPublish_AfterContextEndSendsNothing(t *testing.T) {
	t.Parallel()
	var p recordingPublisher
	why := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	err := ezq.Publish(ctx, &p, UserDeleted{})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, why)
	require.EqualError(t, err, `ezq: publish UserDeleted to "ezq": context canceled: shutting down`)

	ctx, stop := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer stop()
	err = ezq.PublishBatch(ctx, &p, []any{1})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, p.calls)
}

func TestPublish_WrapsPublisherErrorOnce(t *testing.T) {
	t.Parallel()
	p := &recordingPublisher{err: io.ErrClosedPipe}
	err := ezq.Publish(t.Context(), p, UserDeleted{}, ezq.Topic("users"))
	require.EqualError(t, err, `ezq: publish UserDeleted to "users": io: read/write on closed pipe`)
	require.ErrorIs(t, err, io.ErrClosedPipe)
	err = ezq.PublishBatch(t.Context(), p, []UserDeleted{{}, {}}, ezq.Topic("users"))
	require.EqualError(t, err, `ezq: publish 2 events to "users": io: read/write on closed pipe`)
}

func TestPublish_ErrorNamesTopicWhereverOptionStands(t *testing.T) {
	t.Parallel()
	err := ezq.Publish(t.Context(), &recordingPublisher{}, UserDeleted{}, ezq.Header("", ""), ezq.Delay(-1), ezq.Topic("users"))
	require.EqualError(t, err, `ezq: publish UserDeleted to "users": header "": it has no name: choose another one`)
}

func TestPublish_RefusesNilPublisher(t *testing.T) {
	t.Parallel()
	require.EqualError(t, ezq.Publish(t.Context(), nil, UserDeleted{}, ezq.Topic("users")), `ezq: publish UserDeleted to "users": the publisher is nil`)
	require.EqualError(t, ezq.Publish(t.Context(), nil, UserDeleted{}), `ezq: publish UserDeleted to "ezq": the publisher is nil`)
}
