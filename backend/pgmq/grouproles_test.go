package pgmq_test

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// groupDatabase returns a database in which the topic "orders" has a group, with a message and a dead
// letter, and the queue of that group.
func groupDatabase(t *testing.T) (database, queue string) {
	t.Helper()
	database = pgtest.Database(t)
	require.NoError(t, group(t, database, "mailer").SubscribeInitialize("orders"))
	queue, err := pgmq.GroupQueueName("orders", "mailer")
	require.NoError(t, err)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "select pgmq.create('orders_dead'), pgmq.create('ezq_schedules')")
	execute(t, pool, "create table pgmq.ezq_ids (key bytea primary key, until timestamptz not null)")
	execute(t, pool, sqlBlock(t, "create table if not exists pgmq.ezq_pauses"))
	fillGroup(t, pool, queue)
	return database, queue
}

// fillGroup stores a message and a dead letter of the group, and nothing else.
func fillGroup(t *testing.T, pool *pgxpool.Pool, queue string) {
	t.Helper()
	execute(t, pool, "delete from pgmq.q_"+queue+"; insert into pgmq.q_"+queue+" (vt, message) values (now(), '{}')")
	execute(t, pool, fmt.Sprintf(`delete from pgmq.q_orders_dead; insert into pgmq.q_orders_dead (vt, message, headers)
		values (now(), '{}', '{"ezq_queue":"%s","ezq_group":"mailer","topic_poisoned":"orders"}')`, queue))
}

func consumeAsGroup(t *testing.T, database string) error {
	client, err := openAs(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "mailer", NoCreate: true, Archive: true}})
	if err != nil {
		return err
	}
	if _, err := client.Pauses(t.Context(), "orders"); err != nil {
		return err
	}
	messages, err := client.Subscribe(t.Context(), "orders")
	if err != nil {
		return err
	}
	backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "orders_dead"})
	if err := client.Close(); err != nil {
		return err
	}
	name, err := pgmq.GroupQueueName("orders", "mailer")
	if err != nil {
		return err
	}
	if get[int](t, pgtest.Pool(t, database), "select count(*) from pgmq.q_"+name) > 0 {
		return errors.New("the message is still there, and is no dead letter")
	}
	return nil
}

func operateGroup(t *testing.T, database string) error {
	client, err := openAs(t, database, pgmq.Config{
		Publisher: pgmq.PublisherConfig{NoCreate: true}, Subscriber: pgmq.SubscriberConfig{Group: "mailer", NoCreate: true},
	})
	if err != nil {
		return err
	}
	_, paused := client.Pause(t.Context(), "orders", backend.Pause{By: "ada", Reason: "maintenance"})
	_, pausedLonger := client.Pause(t.Context(), "orders", backend.Pause{By: "ada", Reason: "maintenance"})
	_, resumed := client.Resume(t.Context(), "orders")
	_, listed := client.Queues(t.Context())
	_, measured := client.AllMetrics(t.Context())
	_, found := client.Find(t.Context(), "orders", byID())
	_, cancelled := client.Cancel(t.Context(), "orders", byID())
	_, shown := client.DeadLetters(t.Context(), "orders_dead", backend.DeadLetterSelection{Limit: 1})
	moved, redriven := redrive(t.Context(), client, "orders_dead", 1)
	if redriven == nil && moved != 1 {
		redriven = errors.New("nothing was moved")
	}
	_, purged := purgeDeadLetters(t.Context(), client, "orders_dead")
	_, replayed := client.Replay(t.Context(), "orders", pgmq.ReplayFilter{})
	_, emptied := client.PurgeArchive(t.Context(), "orders", time.Now())
	name, err := pgmq.GroupQueueName("orders", "mailer")
	return errors.Join(err, paused, pausedLonger, resumed, listed, measured, found, cancelled, shown, redriven, purged, replayed, emptied, operateBySQL(t, database, name), watchSessions(t, database, true))
}

func sendToGroup(t *testing.T, database string) error {
	name, err := pgmq.GroupQueueName("orders", "mailer")
	if err != nil {
		return err
	}
	return sendTo(t, database, name)
}

// usesOfGroup is what roles do if the topic "orders" has a group and no queue of its own.
func usesOfGroup() map[string]func(*testing.T, string) error {
	return map[string]func(*testing.T, string) error{
		"ezq_consumer": consumeAsGroup, "ezq_operator": operateGroup, "ezq_publisher": publishOrder, "ezq_sender": sendToGroup,
		"ezq_scheduler": scheduleOrder, "ezq_deduplicator": deduplicateOrders, "ezq_monitor": monitor, "ezq_support": support,
	}
}

// groupGrantsOf is grantsOf, with the right to the bindings that a consumer with a Group needs.
func groupGrantsOf(t *testing.T, role string) []string {
	t.Helper()
	grants := grantsOf(t, role)
	if role == "ezq_consumer" {
		grants = append(grants, "grant select on pgmq.topic_bindings to {role}")
	}
	return grants
}

// onGroup returns the grants for "orders" as they are for the queue of a group of it.
func onGroup(grants []string, queue string) []string {
	var all []string
	for _, grant := range grants {
		all = append(all, strings.NewReplacer("q_orders ", "q_"+queue+" ", "a_orders ", "a_"+queue+" ").Replace(grant))
	}
	return all
}

func TestGrants_OfGroupApplyToItsQueue(t *testing.T) {
	t.Parallel()
	for role, use := range usesOfGroup() {
		grants := groupGrantsOf(t, role)
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			database, queue := groupDatabase(t)
			execute(t, pgtest.Pool(t, database), indexOfKeys(queue))
			require.NoError(t, use(t, pgtest.Role(t, database, onGroup(grants, queue)...)))
		})
		for i, grant := range grants {
			t.Run(role+" without "+grant, func(t *testing.T) {
				t.Parallel()
				database, queue := groupDatabase(t)
				execute(t, pgtest.Pool(t, database), indexOfKeys(queue))
				without := slices.Delete(slices.Clone(grants), i, i+1)
				require.Error(t, use(t, pgtest.Role(t, database, onGroup(without, queue)...)))
			})
		}
	}
}

func indexOfKeys(queue string) string {
	return "create index on pgmq.q_" + queue + " (left(headers->>'ezq_unique', 400)) where jsonb_typeof(headers->'ezq_unique') = 'string'"
}

// rolesWithout creates the roles that use a topic, with their documented grants but for those on the tables given, and
// returns the URL of each.
func rolesWithout(t *testing.T, database string, tables *regexp.Regexp) map[string]string {
	t.Helper()
	urls := map[string]string{}
	for role := range usesOfGroup() {
		urls[role] = pgtest.Role(t, database, slices.DeleteFunc(groupGrantsOf(t, role), tables.MatchString)...)
	}
	return urls
}

// forRoles puts the names of roles in the place of those that the page has.
func forRoles(t *testing.T, sql string, urls map[string]string) string {
	t.Helper()
	for role, at := range urls {
		parsed, err := url.Parse(at)
		require.NoError(t, err)
		sql = strings.ReplaceAll(sql, role, parsed.User.Username())
	}
	return sql
}

// The block that docs/postgres.md has for groups grants what the roles need on the queue of a group, and nothing on those of others.
func TestGrants_OfGroupsAsDocumented(t *testing.T) {
	t.Parallel()
	database, queue := groupDatabase(t)
	pool := pgtest.Pool(t, database)
	urls := rolesWithout(t, database, regexp.MustCompile(`[qa]_orders `))
	block := forRoles(t, sqlBlock(t, "do $$ declare queue text"), urls)
	for role, use := range usesOfGroup() {
		require.Error(t, use(t, urls[role]), role)
	}
	others := []string{"Mailer", "mailer!", "mailer_h1", "mailer_hack", "mailer_h0123456789abcdef0123", "mailer h", "mail", "x"}
	for _, name := range others {
		require.NoError(t, group(t, database, name).SubscribeInitialize("orders"))
	}
	execute(t, pool, block)
	for _, name := range others {
		other, err := pgmq.GroupQueueName("orders", name)
		require.NoError(t, err)
		require.NotEqual(t, queue, other)
		for _, at := range urls {
			parsed, err := url.Parse(at)
			require.NoError(t, err)
			require.False(t, get[bool](t, pool, "select bool_or(has_table_privilege($1::text, 'pgmq.'||t||$2, p) or has_any_column_privilege($1::text, 'pgmq.q_'||$2, 'insert'))"+
				" from unnest('{q_,a_}'::text[]) as t, unnest('{select,insert,update,delete}'::text[]) as p", parsed.User.Username(), other), "%s on the queue of %q", at, name)
		}
		execute(t, pool, "select pgmq.drop_queue('"+other+"')") // a publisher needs the rights to all
	}
	for role, use := range usesOfGroup() {
		fillGroup(t, pool, queue)
		require.NoError(t, use(t, urls[role]), role)
	}
}
