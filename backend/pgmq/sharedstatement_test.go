package pgmq_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// badRequest is a publish that is refused.
type badRequest struct {
	sql   string // what refuses it, if it is the queue
	spoil func(*message.Message)
}

func marked(msg *message.Message) { msg.Metadata.Set("bad", "yes") }

// badRequests are publishes of each kind that is refused: before it is sent, by its queue, or by what was added to that.
func badRequests() map[string]badRequest {
	const raising = `create function refuse_{code}() returns trigger language plpgsql as $$ begin raise 'not today' using errcode = '{code}'; end $$;
		create trigger refuse before insert on pgmq.q_{queue} for each row when (new.headers->>'bad' = 'yes') execute function refuse_{code}()`
	bad := map[string]badRequest{
		"id":      {spoil: func(msg *message.Message) { msg.UUID = "id/7" }},
		"long":    {spoil: func(msg *message.Message) { msg.UUID = strings.Repeat("x", backend.MaxID+1) }},
		"header":  {spoil: func(msg *message.Message) { msg.Metadata.Set("a", "\x00") }},
		"delay":   {spoil: func(msg *message.Message) { msg.Metadata.Set("_watermill_delayed_for", "soon") }},
		"payload": {spoil: func(msg *message.Message) { msg.Payload = make([]byte, 1001) }},
		"check":   {sql: "alter table pgmq.q_{queue} add check (headers->>'bad' is null)", spoil: marked},
		"skipped": {sql: `create function skip() returns trigger language plpgsql as $$ begin return null; end $$;
			create trigger skip before insert on pgmq.q_{queue} for each row when (new.headers->>'bad' = 'yes') execute function skip()`, spoil: marked},
		"late": {spoil: func(msg *message.Message) {
			ctx, cancel := context.WithCancel(msg.Context())
			cancel()
			msg.SetContext(ctx)
		}},
	}
	for _, code := range []string{"P0001", "42501", "42P01", "55P03", "22P02"} {
		bad["raised_"+strings.ToLower(code)] = badRequest{sql: strings.ReplaceAll(raising, "{code}", code), spoil: marked}
	}
	return bad
}

// Publishes to one topic share statements. What is wrong with one of them is no reason to refuse another.
func TestPublish_RefusedStopsNoOther(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(key string) *backend.PublishCondition{
		"without a condition": func(string) *backend.PublishCondition { return nil },
		"an ID":               func(string) *backend.PublishCondition { return once() },
		"a key":               unique,
		"a key that repeats":  func(key string) *backend.PublishCondition { return replacing(key, 0) },
	}
	for _, session := range []string{"", "&default_transaction_isolation=serializable"} { // which begins transactions, where there are conditions
		for name, condition := range kinds {
			t.Run(name+session, func(t *testing.T) {
				t.Parallel()
				database := pgtest.Database(t)
				pool := pgtest.Pool(t, database)
				client := openAt(t, database+session, pgmq.Config{Publisher: pgmq.PublisherConfig{MaxPayloadBytes: 1000}})
				for queue, bad := range badRequests() {
					execute(t, pool, "select pgmq.create('"+queue+"'); "+strings.ReplaceAll(bad.sql, "{queue}", queue))
					publishBeside(t, client, queue, bad, condition)
				}
			})
		}
	}
}

// publishBeside publishes good messages while bad ones are published.
func publishBeside(t *testing.T, client *pgmq.Client, topic string, bad badRequest, condition func(key string) *backend.PublishCondition) {
	t.Helper()
	const publishers, messages = 4, 15
	publish := func(id string, spoil func(*message.Message)) error {
		ctx := t.Context()
		if c := condition(id); c != nil {
			ctx = backend.WithPublishCondition(ctx, c)
		}
		msg := message.NewMessageWithContext(ctx, id, []byte("{}"))
		spoil(msg)
		return client.Publish(topic, msg)
	}
	done := make(chan struct{})
	var good, spoiled sync.WaitGroup
	spoiled.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
				_ = publish(fmt.Sprint("bad ", n), bad.spoil)
			}
		}
	})
	for publisher := range publishers {
		good.Go(func() {
			for n := range messages {
				if err := publish(fmt.Sprint("good ", publisher, n), func(*message.Message) {}); err != nil {
					t.Errorf("%s: %v", topic, err)
					return
				}
			}
		})
	}
	good.Wait()
	close(done)
	spoiled.Wait()
}
