package pgmq_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// insertLetter writes a dead letter of the topic "t" with more headers, as the store does.
func insertLetter(t *testing.T, pool *pgxpool.Pool, message, headers string) {
	t.Helper()
	_, err := pool.Exec(t.Context(), `insert into pgmq.q_t_dead (vt, message, headers) values (now(), $1::text::jsonb, '{"topic_poisoned":"t"}'::jsonb || $2::text::jsonb)`, message, headers)
	require.NoError(t, err)
}

// openLetters opens a client whose topic "t" has a queue, and one for dead letters.
func openLetters(t *testing.T) (*pgmq.Client, *pgxpool.Pool) {
	t.Helper()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t'), pgmq.create('t_dead')")
	return client, pool
}

func listed(t *testing.T, client *pgmq.Client, s backend.DeadLetterSelection) []string {
	t.Helper()
	found, err := client.DeadLetters(t.Context(), "t_dead", s)
	require.NoError(t, err)
	return idsOf(found)
}

// Of two groups with the same dead letters, a selection takes those of one, and they come to that one.
func TestRedrive_GroupGetsItsOwnBack(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	mail, bills := group(t, database, "mail"), group(t, database, "bills")
	toMail, toBills := subscribe(t, mail), subscribe(t, bills)
	client := openAt(t, database, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t_dead"))
	publish(t, client, "1")
	giveUpTo(t, receive(t, toMail), "t_dead", "t")
	giveUpTo(t, receive(t, toBills), "t_dead", "t")
	requireCount(t, pgtest.Pool(t, database), "pgmq.q_t_dead", 2)
	counts, err := client.CountDeadLetters(t.Context(), "t_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Equal(t, []string{"bills", "mail"}, []string{counts[0].Group, counts[1].Group})
	done, err := client.Redrive(t.Context(), "t_dead", backend.DeadLetterSelection{Group: "mail"})
	require.NoError(t, err)
	require.Equal(t, backend.Redriven{Moved: 1}, done)
	requireReceives(t, toMail, "1")
	queue, err := pgmq.GroupQueueName("t", "bills")
	require.NoError(t, err)
	requireCount(t, pgtest.Pool(t, database), pgx.Identifier{"pgmq", "q_" + queue}.Sanitize(), 0)
	left, err := client.DeadLetters(t.Context(), "t_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Equal(t, "bills", left[0].Group)
}

// What another session has locked is passed by and counted: nothing waits.
func TestDeadLetters_LockedRowIsBusy(t *testing.T) {
	t.Parallel()
	client, pool := openLetters(t)
	insertLetter(t, pool, `1`, `{"ezq_uuid":"a"}`)
	insertLetter(t, pool, `2`, `{"ezq_uuid":"b"}`)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(t.Context())) }()
	_, err = tx.Exec(t.Context(), "select from pgmq.q_t_dead where msg_id = 1 for update")
	require.NoError(t, err)
	found, err := client.DeadLetters(t.Context(), "t_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	edit := backend.DeadLetterEdit{Row: 1, Version: found[0].Version(), Payload: []byte("3"), By: "ada"}
	conflict := new(backend.EditConflictError)
	require.ErrorAs(t, client.EditDeadLetter(t.Context(), "t_dead", edit), &conflict)
	require.Equal(t, &backend.EditConflictError{Row: 1, Busy: true}, conflict)
	moved, err := client.Redrive(t.Context(), "t_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Equal(t, backend.Redriven{Moved: 1, Busy: 1}, moved)
	purged, err := client.PurgeDeadLetters(t.Context(), "t_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Equal(t, backend.Purged{Busy: 1}, purged)
}

func TestDeadLetters_LookIsBoundedAndGoesOn(t *testing.T) {
	t.Parallel()
	client, pool := openLetters(t)
	execute(t, pool, `insert into pgmq.q_t_dead (vt, message, headers) select now(), '{}', '{"topic_poisoned":"t","handler_poisoned":"other"}' from generate_series(1, 1000)`)
	insertLetter(t, pool, `1`, `{"ezq_uuid":"last","handler_poisoned":"mail"}`)
	client.LookAtMost(500, time.Minute)
	byHandler := backend.DeadLetterSelection{Handler: "mail"}
	for range 2 {
		found, err := client.DeadLetters(t.Context(), "t_dead", byHandler)
		truncated := new(backend.TruncatedError)
		require.ErrorAs(t, err, &truncated)
		require.Empty(t, found)
		require.Contains(t, truncated.Reason, "rows were looked at")
		_, err = fmt.Sscanf(truncated.Remedy, "go on with After: %d", &byHandler.After)
		require.NoError(t, err)
	}
	require.Equal(t, []string{"last"}, listed(t, client, byHandler))
	counts, err := client.CountDeadLetters(t.Context(), "t_dead", backend.DeadLetterSelection{})
	require.ErrorAs(t, err, new(*backend.TruncatedError))
	require.Equal(t, 500, counts[0].Letters, "what it has counted is told")
	done, err := client.Redrive(t.Context(), "t_dead", backend.DeadLetterSelection{Handler: "mail"})
	require.NoError(t, err, "what moves looks at all")
	require.Equal(t, 1, done.Moved)
}

// Rows that any consumer may have written hide no dead letter, and stop nothing.
func TestDeadLetters_LargeRowsHideNone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rows, bytes int
		reason      string
	}{
		"headers that none receives":    {100, 50_000_000, "messages whose headers take more than 256 KiB were left out"},
		"headers that take long in all": {500, 20_000_000, "a statement took longer than %v, and messages with large headers or payloads were left out"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := openLetters(t)
			execute(t, pool, fmt.Sprintf(`insert into pgmq.q_t_dead (vt, message, headers) select now(), '{}', jsonb_build_object('topic_poisoned', 't', 'x', repeat('x', %d))`, test.bytes))
			execute(t, pool, fmt.Sprintf(`insert into pgmq.q_t_dead (vt, message, headers) select vt, message, headers from pgmq.q_t_dead, generate_series(1, %d) where msg_id = 1`, test.rows-1))
			insertLetter(t, pool, `1`, `{"ezq_uuid":"victim","handler_poisoned":"mail","reason_poisoned":"order 7"}`)
			began := time.Now()
			require.Zero(t, get[int](t, pool, "select count(*) from pgmq.q_t_dead where msg_id < 100 and headers->'handler_poisoned' = '1'"))
			limit := (time.Since(began) / 4).Round(time.Millisecond) // of what a statement takes that looks at a hundred
			if test.reason = strings.ReplaceAll(test.reason, "%v", limit.String()); test.rows == 100 {
				limit = patience
			}
			client.LookAtMost(100_000, limit)
			s := backend.DeadLetterSelection{Handler: "mail"}
			found, err := client.DeadLetters(t.Context(), "t_dead", s)
			require.ErrorContains(t, err, test.reason)
			require.ErrorContains(t, err, "choose them by their Rows")
			require.Equal(t, []string{"victim"}, idsOf(found))
			counts, err := client.CountDeadLetters(t.Context(), "t_dead", backend.DeadLetterSelection{})
			require.ErrorContains(t, err, test.reason)
			require.Equal(t, "order #", counts[0].Reason)
			origins, err := client.Origins(t.Context(), "t_dead", s)
			require.NoError(t, err)
			require.Len(t, origins, 1)
			done, err := client.Redrive(t.Context(), "t_dead", s)
			require.ErrorContains(t, err, test.reason)
			require.Equal(t, backend.Redriven{Moved: 1}, done)
			client.LookAtMost(100_000, patience)
			purged, err := client.PurgeDeadLetters(t.Context(), "t_dead", backend.DeadLetterSelection{Rows: []int64{1, 2}})
			require.NoError(t, err)
			require.Equal(t, backend.Purged{Removed: 2}, purged)
		})
	}
}

// A reason is text: no character of it is an expression to PostgreSQL.
func TestDeadLetters_ReasonIsText(t *testing.T) {
	t.Parallel()
	client, pool := openLetters(t)
	reasons := []string{
		`***=x`, `***:x`, `(?i)x`, `a.c`, `[ab]`, `a{2}`, `\d\m\y`, `^a$`, `a|b`, `"quoted"`, `50% of _`, "zwei\nZeilen", `#`, `order 17 of 3f2b8c1e-90aa-4bcd-8e2f-001122334455`, "Grüße",
	}
	for _, reason := range reasons {
		_, err := pool.Exec(t.Context(), `insert into pgmq.q_t_dead (vt, message, headers) values (now(), '{}', jsonb_build_object('topic_poisoned', 't', 'ezq_uuid', $1::text, 'reason_poisoned', $1::text))`, reason)
		require.NoError(t, err)
	}
	for _, reason := range reasons {
		if reason != "#" {
			require.Equal(t, []string{reason}, listed(t, client, backend.DeadLetterSelection{Reason: reason}))
		}
	}
	require.Len(t, listed(t, client, backend.DeadLetterSelection{Reason: "order # of #"}), 1)
	counts, err := client.CountDeadLetters(t.Context(), "t_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	for _, count := range counts {
		require.Contains(t, listed(t, client, backend.DeadLetterSelection{Reason: count.Reason}), pickOf(reasons, count.Reason), "%+v", count)
	}
}

// pickOf returns the reason that is counted as pattern.
func pickOf(reasons []string, pattern string) string {
	for _, reason := range reasons {
		if reason == pattern || strings.HasPrefix(pattern, "order #") && strings.HasPrefix(reason, "order 17") || pattern == "a{#}" && reason == "a{2}" || pattern == "#% of _" && reason == "50% of _" {
			return reason
		}
	}
	return "nothing"
}

// A dead letter keeps what it is when it is edited, however its payload was stored.
func TestEditDeadLetter_StoresAsPublished(t *testing.T) {
	t.Parallel()
	client, pool := openLetters(t)
	insertLetter(t, pool, `{"_type":"Paid","order":"x"}`, `{"content-type":"application/json","ezq_uuid":"json"}`)
	insertLetter(t, pool, `"text"`, `{"ezq_enc":"text","ezq_uuid":"text"}`)
	insertLetter(t, pool, `"AAE="`, `{"ezq_enc":"base64","ezq_uuid":"bytes","content-type":"application/json"}`)
	found, err := client.DeadLetters(t.Context(), "t_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	for _, letter := range found {
		require.NoError(t, client.EditDeadLetter(t.Context(), "t_dead", backend.DeadLetterEdit{
			Row: letter.Row, Version: letter.Version(), Payload: []byte(`{"_type":"Paid","order":7}`), By: "ada",
		}))
	}
	require.Equal(t, 2, get[int](t, pool, `select count(*)::int from pgmq.q_t_dead where message->>'order' = '7' and not headers ? 'ezq_enc'`), "SQL sees JSON where it is declared")
	messages := subscribe(t, client)
	done, err := client.Redrive(t.Context(), "t_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Equal(t, 3, done.Moved)
	for range found {
		msg := receive(t, messages)
		require.JSONEq(t, `{"_type":"Paid","order":7}`, string(msg.Payload))
		require.Equal(t, "ada", msg.Metadata[backend.EditedBy])
		msg.Ack()
	}
}

// What pgmq.send has stored says no content type. As a string, SQL and programs without ezq do not know it any more.
func TestEditDeadLetter_OfAnotherProgramStaysJSON(t *testing.T) {
	t.Parallel()
	client, pool := openLetters(t)
	insertLetter(t, pool, `{"_type":"Paid","order":"x"}`, `{}`)
	for _, payload := range []string{`{"_type":"Paid","order":"x"}`, `{"_type":"Paid","order":7}`} {
		found, err := client.DeadLetters(t.Context(), "t_dead", backend.DeadLetterSelection{Event: "Paid"})
		require.NoError(t, err)
		require.Len(t, found, 1)
		require.NoError(t, client.EditDeadLetter(t.Context(), "t_dead", backend.DeadLetterEdit{
			Row: found[0].Row, Version: found[0].Version(), Payload: []byte(payload), By: "ada",
		}))
	}
	require.True(t, get[bool](t, pool, `select message = '{"_type":"Paid","order":7}' and not headers ? 'ezq_enc' from pgmq.q_t_dead`))
	found, err := client.Find(t.Context(), "t", backend.Selection{Field: "order", Equals: 7})
	require.NoError(t, err)
	require.Len(t, found, 1)
	done, err := client.Redrive(t.Context(), "t_dead", backend.DeadLetterSelection{Event: "Paid"})
	require.NoError(t, err)
	require.Equal(t, 1, done.Moved)
}

// A trigger that keeps the row says nothing itself.
func TestEditDeadLetter_KeptRowIsSaid(t *testing.T) {
	t.Parallel()
	client, pool := openLetters(t)
	insertLetter(t, pool, `1`, `{}`)
	execute(t, pool, "create function keep() returns trigger language plpgsql as 'begin return null; end'")
	execute(t, pool, "create trigger keep before update on pgmq.q_t_dead for each row execute function keep()")
	found, err := client.DeadLetters(t.Context(), "t_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	err = client.EditDeadLetter(t.Context(), "t_dead", backend.DeadLetterEdit{Row: 1, Version: found[0].Version(), Payload: []byte("2"), By: "ada"})
	require.ErrorContains(t, err, "look for a trigger, a rule or a policy on")
}

func TestEditDeadLetter_WithoutAuthorOrVersionIsInvalidConfig(t *testing.T) {
	t.Parallel()
	client, pool := openLetters(t)
	insertLetter(t, pool, `1`, `{}`)
	for _, edit := range []backend.DeadLetterEdit{
		{Row: 1, Version: "v", Payload: []byte("2")}, {Row: 1, By: "ada", Payload: []byte("2")}, {Row: 1, By: "ada", Payload: []byte("{")},
	} {
		err := client.EditDeadLetter(t.Context(), "t_dead", edit)
		require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
		require.NotErrorIs(t, err, pgmq.ErrInvalidMessage)
	}
}

func TestEditDeadLetter_WithTooLargePayloadIsRefused(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Publisher: pgmq.PublisherConfig{MaxPayloadBytes: 10}})
	execute(t, pool, "select pgmq.create('t_dead')")
	err := client.EditDeadLetter(t.Context(), "t_dead", backend.DeadLetterEdit{Row: 1, Version: "v", Payload: []byte(`"0123456789"`), By: "ada"})
	require.ErrorIs(t, err, pgmq.ErrTooLarge)
}

func TestEditDeadLetter_OfUnreadableIsRefused(t *testing.T) {
	t.Parallel()
	client, pool := openLetters(t)
	insertLetter(t, pool, `1`, `{}`)
	execute(t, pool, "insert into pgmq.q_t_dead (vt, message, headers) values (now(), jsonb_build_object('x', repeat('x', 70000000)), '{\"topic_poisoned\":\"t\"}')")
	err := client.EditDeadLetter(t.Context(), "t_dead", backend.DeadLetterEdit{Row: 2, Version: "v", Payload: []byte("2"), By: "ada"})
	require.ErrorIs(t, err, pgmq.ErrTooLarge)
	err = client.EditDeadLetter(t.Context(), "t_dead", backend.DeadLetterEdit{Row: 1, Version: "v", Payload: []byte("{"), By: "ada"})
	require.ErrorIs(t, err, pgmq.ErrInvalidMessage)
	require.ErrorContains(t, err, "it is no JSON, as byte 1 of 1 shows")
	err = client.EditDeadLetter(t.Context(), "nowhere_dead", backend.DeadLetterEdit{Row: 1, Version: "v", Payload: []byte("2"), By: "ada"})
	require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
}

func TestDeadLetters_AreChosenByFieldOfBody(t *testing.T) {
	t.Parallel()
	client, pool := openLetters(t)
	for id, body := range []string{`{"order":{"id":7}}`, `{"order":{"id":"7"}}`, `[7]`, `{"order":{"id":8}}`, `{"order":{"id":7.0}}`} {
		insertLetter(t, pool, body, fmt.Sprintf(`{"ezq_uuid":"%d"}`, id))
	}
	s := backend.DeadLetterSelection{Field: "order.id", Equals: 7}
	require.Equal(t, []string{"0", "4"}, listed(t, client, s))
	counts, err := client.CountDeadLetters(t.Context(), "t_dead", s)
	require.NoError(t, err)
	require.Equal(t, 2, counts[0].Letters)
	moved, err := client.Redrive(t.Context(), "t_dead", s)
	require.NoError(t, err)
	require.Equal(t, backend.Redriven{Moved: 2}, moved)
	purged, err := client.PurgeDeadLetters(t.Context(), "t_dead", backend.DeadLetterSelection{Field: "order.id", Equals: "7"})
	require.NoError(t, err)
	require.Equal(t, backend.Purged{Removed: 1}, purged)
	require.Equal(t, []string{"2", "3"}, listed(t, client, backend.DeadLetterSelection{}))
	_, err = client.Redrive(t.Context(), "t_dead", backend.DeadLetterSelection{Field: "order..id", Equals: 7})
	require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
}
