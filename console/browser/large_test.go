package browser

import (
	"flag"
	"fmt"
	"log/slog"
	"testing"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/console"
	"github.com/ezq-go/ezq/internal/pgtest"
)

var manyLetters = flag.Int("letters", 5_000, "how many dead letters there are in a test, such as 1000000")

func TestQueues_ThousandAreListedInPages(t *testing.T) {
	t.Parallel()
	broker := memory.New(&memory.Config{Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { _ = broker.Close() })
	for i := range 1000 {
		check(t, broker.SubscribeInitialize(fmt.Sprintf("topic_%03d", i)))
	}
	b := newTab(t, serve(t, broker, console.Everything()))
	b.visit("/?live=off")
	b.shows("topic_000", "topic_099", "Page 1 of 10")
	b.follow("Next")
	b.shows("topic_100", "topic_199", "Page 2 of 10")
	b.fill("q", "c_77")
	b.follow("Filter")
	b.shows("topic_770", "topic_779")
	if rows := ask[int](b, `document.querySelectorAll("tbody tr").length`); rows != 10 {
		t.Errorf("it lists %d queues", rows)
	}
}

// Of a great many dead letters, some are shown, all are counted up to a limit, and those of one reason are moved.
func TestDeadLetters_VeryManyAreShownInPages(t *testing.T) {
	t.Parallel()
	needChromium(t)
	database := pgtest.Database(t)
	c, err := pgmq.Open(t.Context(), database, nil)
	check(t, err)
	t.Cleanup(func() { _ = c.Close() })
	fill(t, c)
	pgtest.Exec(t, pgtest.Pool(t, database), fmt.Sprintf(`
		insert into pgmq.q_orders_dead (vt, enqueued_at, read_ct, message, headers)
		select vt, enqueued_at, read_ct, message, jsonb_set(headers, '{ezq_uuid}', to_jsonb('copy-' || n))
		from pgmq.q_orders_dead cross join generate_series(1, %d) as n where msg_id = 1`, *manyLetters))
	pgtest.Exec(t, pgtest.Pool(t, database), `create index "ezq_id_q_orders_dead" on pgmq.q_orders_dead using hash ((headers->'ezq_uuid'::text))`)
	b := newTab(t, serve(t, c, console.Everything()))
	b.visit("/dead?topic=" + letters)
	b.shows("card # has expired", "there is no address")
	if rows := ask[int](b, `document.querySelectorAll("tbody tr").length`); rows > 110 {
		t.Errorf("it lists %d rows", rows)
	}
	b.follow("Next")
	b.follow("From the beginning")
	b.follow("there is no address")
	b.follow("Redrive these…")
	b.follow("Redrive")
	b.shows("1 moved back.")
	b.expect(c, "dead-2", "waiting")
	if left := len(lettersOf(t, c, backend.DeadLetterSelection{Reason: "expired"})); left != backend.DefaultFindLimit {
		t.Errorf("%d are found of those that stay", left)
	}
}
