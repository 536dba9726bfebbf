package pgmq_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// publishExpiring publishes a message with a key that says when it expires.
func publishExpiring(t *testing.T, client *pgmq.Client, id, at string) backend.PublishResult {
	t.Helper()
	c := unique("k")
	msg := conditional(t.Context(), id, c, 0)
	msg.Metadata.Set(backend.ExpiresAt, at)
	require.NoError(t, client.Publish("t", msg))
	result, _ := c.Result()
	return result
}

// What cannot be read does not count for a router either. No text makes the statement fail.
func TestUnique_KeyOfExpiredMessageIsFree(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t')")
	for at, expired := range map[string]bool{
		"2000-01-01T00:00:00Z":                                 true,
		"2000-01-01T00:00:00.123456789+14:00":                  true,
		time.Now().UTC().Format(time.RFC3339Nano):              true,
		time.Now().Format(time.RFC3339):                        true,
		inZone(time.Now().Add(-time.Minute), 5*3600+1800):      true,
		inZone(time.Now().Add(-time.Minute), -11*3600):         true,
		inZone(time.Now().Add(time.Hour), 5*3600+1800):         false,
		inZone(time.Now().Add(time.Hour), -11*3600):            false,
		time.Now().Add(time.Hour).UTC().Format(time.RFC3339):   false,
		"9999-12-31T23:59:59Z":                                 false,
		"":                                                     false,
		"soon":                                                 false,
		"2000-01-01":                                           false,
		"2000-01-01T00:00:00":                                  false,
		"2000-01-01 00:00:00Z":                                 false,
		"2000-01-01T00:00:00.Z":                                false,
		"2000-01-01T00:00:00Z\n":                               false,
		"-infinity":                                            false,
		"2000-01-01T00:00:00.1234567890123456789012345678901Z": false,
		"99999-01-01T00:00:00Z":                                false,
		"9999-99-99T99:99:99Z":                                 false,
		"2000-13-01T00:00:00Z":                                 false,
		"2000-02-30T00:00:00Z":                                 false,
		"2000-04-31T00:00:00Z":                                 false,
		"2000-01-01T24:00:00Z":                                 false,
		"2000-01-01T00:60:00Z":                                 false,
		"2000-02-29T00:00:00Z":                                 true,
		"9999-99-99T99:99:99+99:59":                            false,
		"2000-01-01T00:00:00+99:99":                            false,
		"2000-01-01T00:00:00\u00e9":                            false,
	} {
		t.Run(at, func(t *testing.T) {
			execute(t, pool, "delete from pgmq.q_t")
			require.Equal(t, backend.PublishStored, publishExpiring(t, client, "a", at).Outcome)
			want := existed("a")
			if expired {
				want = backend.PublishResult{ID: "b"}
			}
			require.Equal(t, want, publishExpiring(t, client, "b", ""))
			require.Equal(t, want.ID, publishExpiring(t, client, "c", "").ID, "the one that has the key is named")
		})
	}
}

// Any program can write headers that take long to read: they are not looked at, and the first one ends the search.
func TestUnique_FloodOfLargeHeadersIsNotRead(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t')")
	execute(t, pool, `insert into pgmq.q_t (vt, message, headers) select now(), '{}',
		jsonb_build_object('ezq_unique', 't/k', 'ezq_uuid', 'a', 'x-ezq-expires-at', '2000-01-01T00:00:00Z', 'x', repeat('x', 10000000)) from generate_series(1, 100)`)
	require.Equal(t, existed("a"), publishExpiring(t, client, "b", ""))
}

func inZone(at time.Time, seconds int) string {
	return at.In(time.FixedZone("", seconds)).Format(time.RFC3339)
}

// A handler that has begun is not interrupted when its message expires, and what is published beside it would be a second one.
func TestUnique_ExpiredMessageThatIsHandledHasItsKey(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: true}})
	messages := subscribe(t, client)
	publishExpiring(t, client, "a", "2000-01-01T00:00:00Z")
	handled := receive(t, messages)
	require.Equal(t, existed("a"), publishExpiring(t, client, "b", ""))
	handled.Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

// The statement for several queues is another one.
func TestUnique_KeyOfExpiredMessageIsFreeInEachGroup(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	require.NoError(t, group(t, database, "mail").SubscribeInitialize("t"))
	client, pool := openAt(t, database, pgmq.Config{}), pgtest.Pool(t, database)
	execute(t, pool, "select pgmq.create('t'), pgmq.create('audit'), pgmq.bind_topic('t', 'audit')")
	publishExpiring(t, client, "a", "2000-01-01T00:00:00Z")
	require.Equal(t, backend.PublishResult{ID: "b"}, publishExpiring(t, client, "b", "2000-01-01T00:00:00Z"))
	execute(t, pool, "update pgmq.q_audit set headers = headers - 'x-ezq-expires-at'")
	require.Equal(t, backend.PublishResult{ID: "c"}, publishExpiring(t, client, "c", ""))
	requireCount(t, pool, "pgmq.q_t", 3)
	requireCount(t, pool, "pgmq.q_audit", 2)
}
