package pgmq_test

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

const (
	latin1   = "encoding 'LATIN1' locale 'C' template template0"
	sqlASCII = "encoding 'SQL_ASCII' locale 'C' template template0"
)

// withClientEncoding returns the URL of the database for sessions that speak the encoding.
func withClientEncoding(t *testing.T, database, encoding string) string {
	t.Helper()
	u, err := url.Parse(database)
	require.NoError(t, err)
	values := u.Query()
	values.Set("client_encoding", encoding)
	u.RawQuery = values.Encode()
	return u.String()
}

// speakLATIN1 makes LATIN1 what sessions speak that do not say otherwise.
func speakLATIN1(t *testing.T, database string) string {
	t.Helper()
	pool := pgtest.Pool(t, database)
	execute(t, pool, fmt.Sprintf("alter database %s set client_encoding = 'LATIN1'", get[string](t, pool, "select current_database()")))
	return database
}

func inLATIN1(t *testing.T, database string) string {
	t.Helper()
	return withClientEncoding(t, database, "LATIN1")
}

func TestEncoding_PreservesTextInAnyDatabase(t *testing.T) {
	t.Parallel()
	byItself := func(_ *testing.T, database string) string { return database }
	for name, test := range map[string]struct {
		options, text string
		session       func(t *testing.T, database string) string
	}{
		"LATIN1":                             {latin1, "é", byItself},
		"SQL_ASCII":                          {sqlASCII, "é漢", byItself},
		"UTF8":                               {"", "é漢", byItself},
		"UTF8, and the URL says LATIN1":      {"", "é漢", inLATIN1},
		"UTF8, and the database says LATIN1": {"", "é漢", speakLATIN1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t, test.options)
			client := openAt(t, test.session(t, database), pgmq.Config{})
			msg := message.NewMessage("1", []byte(`{"name": "`+test.text+`"}`))
			msg.Metadata.Set("name", test.text)
			msg.Metadata.Set("content-type", "application/json")
			require.NoError(t, client.Publish("t", msg))
			stored := get[string](t, pgtest.Pool(t, withClientEncoding(t, database, "UTF8")), "select message->>'name' from pgmq.q_t")
			require.Equal(t, test.text, stored, "what others read")
			got := receive(t, subscribe(t, client))
			require.JSONEq(t, string(msg.Payload), string(got.Payload))
			require.Equal(t, test.text, got.Metadata.Get("name"))
			got.Ack()
		})
	}
}

func TestEncoding_RefusesCharacterMissingFromDatabase(t *testing.T) {
	t.Parallel()
	send := func(client *pgmq.Client, payload string) error {
		msg := message.NewMessage("1", []byte(payload))
		msg.Metadata.Set("content-type", "application/json")
		return client.Publish("t", msg)
	}
	client := openAt(t, pgtest.Database(t, latin1), pgmq.Config{})
	for _, payload := range []string{`{"name": "漢"}`, `{"name": "\u6f22"}`, `"漢"`} {
		err := send(client, payload)
		require.ErrorIs(t, err, pgmq.ErrInvalidMessage)
		require.ErrorIs(t, err, pgmq.ErrRejected)
		require.ErrorContains(t, err, "with the encoding UTF8")
	}
	require.NoError(t, send(client, `{"name": "\u00e9"}`))

	client = openAt(t, pgtest.Database(t, sqlASCII), pgmq.Config{})
	require.ErrorIs(t, send(client, `{"name": "\u00e9"}`), pgmq.ErrRejected)
}

func TestEncoding_RefusesPublishOverOtherClientEncoding(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	other := openAt(t, database, pgmq.Config{})
	publish(t, other, "é漢")
	pool := pgtest.Pool(t, inLATIN1(t, database))
	client, err := pgmq.New(pool, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	for _, publisher := range []message.Publisher{client, other.WithTx(tx)} {
		err := publisher.Publish("t", message.NewMessage("1", []byte("é")))
		require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
		require.ErrorIs(t, err, pgmq.ErrRejected)
		require.ErrorContains(t, err, "client_encoding=UTF8")
	}
	require.NoError(t, tx.Commit(t.Context()), "nothing was sent")
	msg := receive(t, subscribe(t, client))
	require.Equal(t, "é漢", string(msg.Payload), "the connections of consumers are ezq's own")
	msg.Ack()
}

func TestEncoding_WorksOnSQLASCII(t *testing.T) {
	t.Parallel()
	for name, group := range map[string]string{"without a group": "", "with a group": "mail"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.Pool(t, pgtest.Database(t, sqlASCII))
			client, err := pgmq.New(pool, &pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: group}})
			require.NoError(t, err)
			t.Cleanup(func() { _ = client.Close() })
			require.NoError(t, client.SubscribeInitialize("t"))
			require.NoError(t, client.Publish("t", message.NewMessage("1", []byte("é漢"))))
			msg := receive(t, subscribe(t, client))
			require.Equal(t, "é漢", string(msg.Payload))
			msg.Ack()
		})
	}
}

func TestEncoding_QuarantinesMessageThatIsNotUTF8(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t, sqlASCII)
	client, pool := openAt(t, database, pgmq.Config{}), pgtest.Pool(t, database)
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, `select pgmq.send('t', convert_from('\x22e922', 'SQL_ASCII')::jsonb)`)
	publish(t, client, "after")
	requireReceived(t, client, "after")
	requireCount(t, pool, "pgmq.a_t", 1)
	require.Contains(t, get[string](t, pool, "select headers->>'reason_poisoned' from pgmq.a_t"), "SQLSTATE 22021")
}
