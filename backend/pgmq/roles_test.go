package pgmq_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
	"github.com/ezq-go/ezq/internal/schema"
)

const operations = "../../docs/postgres.md"

// dutyOf is what the roles of docs/postgres.md are for.
var dutyOf = map[string]schema.Duty{
	"ezq_owner": schema.Own, "ezq_publisher": schema.Publish, "ezq_sender": schema.Send, "ezq_scheduler": schema.Schedule,
	"ezq_deduplicator": schema.Condition, "ezq_consumer": schema.Consume, "ezq_operator": schema.Operate,
	"ezq_monitor": schema.Monitor, "ezq_support": schema.Support,
}

// grantsOf returns the grants of a role for the topic "orders", as `ezq grants` prints them.
func grantsOf(t *testing.T, role string) (grants []string) {
	t.Helper()
	require.Contains(t, dutyOf, role)
	for _, grant := range schema.Grants(dutyOf[role], schema.Topic{Queues: []string{"orders"}, Dead: "orders_dead"}) {
		grants = append(grants, strings.TrimSuffix(grant.SQL("{role}"), ";"))
	}
	return grants
}

// What the page shows is what the command prints.
func TestGrants_PageShowsThoseOfTheCommand(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(operations)
	require.NoError(t, err)
	optional := regexp.MustCompile(`q_audit|\bapp\b|insert, update on pgmq.ezq_pauses`) // of what has tests of its own
	for role := range dutyOf {
		var shown []string
		for line := range strings.SplitSeq(string(text), "\n") {
			if strings.HasPrefix(line, "grant ") && strings.HasSuffix(line, " to "+role+";") && !optional.MatchString(line) {
				shown = append(shown, strings.TrimSuffix(line, role+";")+"{role}")
			}
		}
		require.Equal(t, grantsOf(t, role), shown, role)
	}
	breaker := schema.Grants(schema.Break, schema.Topic{})
	require.Contains(t, string(text), breaker[0].SQL("ezq_consumer"))
}

// sqlBlock returns the block of SQL in docs/postgres.md that contains a text.
func sqlBlock(t *testing.T, text string) string {
	t.Helper()
	page, err := os.ReadFile(operations)
	require.NoError(t, err)
	for _, block := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if strings.Contains(block[1], text) {
			return block[1]
		}
	}
	t.Fatalf("%s has no block of SQL with %q", operations, text)
	return ""
}

// documented is what docs/postgres.md says that roles can do, with queues "orders"
// and "orders_dead" that exist and have a message each, and "ezq_schedules" with a schedule.
func documented() map[string]func(t *testing.T, database string) error {
	return map[string]func(t *testing.T, database string) error{
		"ezq_owner": own, "ezq_publisher": publishOrder, "ezq_sender": sendOrder, "ezq_scheduler": scheduleOrder, "ezq_consumer": consumeOrders, "ezq_operator": operate,
		"ezq_monitor": monitor, "ezq_deduplicator": deduplicateOrders, "ezq_support": support,
	}
}

func own(t *testing.T, database string) error {
	client, err := openAs(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "mine"}})
	if err != nil {
		return err
	}
	_, err = client.DropQueue(t.Context(), "new")
	return errors.Join(client.CreateQueue(t.Context(), "new", nil), client.SubscribeInitialize("new"),
		client.Tune(t.Context(), "new", nil), err, drop(t, client))
}

func drop(t *testing.T, client *pgmq.Client) error {
	_, err := client.DropQueue(t.Context(), "new")
	return err
}

func publishOrder(t *testing.T, database string) error {
	client, err := openAs(t, database, pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}})
	if err != nil {
		return err
	}
	if err := client.Publish("orders", message.NewMessage("1", nil)); err != nil {
		return err
	}
	return errors.Join(client.Publish("orders", message.NewMessage("2", nil), message.NewMessage("3", []byte("{}"))), orderInTx(t, client, database))
}

func orderInTx(t *testing.T, client *pgmq.Client, database string) error {
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		return err
	}
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	return pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		return client.WithTx(tx).Publish("orders", message.NewMessage("4", nil))
	})
}

// sendOrder publishes without ezq.
func sendOrder(t *testing.T, database string) error { return sendTo(t, database, "orders") }

func sendTo(t *testing.T, database, queue string) error {
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		return err
	}
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	for _, sql := range []string{
		"select pgmq.send('{queue}', '{}')", `select pgmq.send('{queue}', '{}', '{"tenant":"a"}'::jsonb, 60)`,
		"select pgmq.send_batch('{queue}', array['{}', '{}']::jsonb[])", "select pgmq.send_topic('orders', '{}')",
	} {
		if _, err := conn.Exec(t.Context(), strings.ReplaceAll(sql, "{queue}", queue)); err != nil {
			return err
		}
	}
	return nil
}

// scheduleOrder publishes for a tick of a schedule that begins, and for the next.
func scheduleOrder(t *testing.T, database string) error {
	client, err := openAs(t, database, pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}})
	if err != nil {
		return err
	}
	tick := &backend.ScheduleTick{Schedule: "nightly", At: time.Now()}
	for range 2 {
		msg := message.NewMessageWithContext(backend.WithScheduleTick(t.Context(), tick), "1", []byte("{}"))
		if err := client.Publish("orders", msg); err != nil {
			return err
		}
		result, _ := tick.Result()
		tick = &backend.ScheduleTick{Schedule: "nightly", At: result.Now.Add(time.Microsecond)}
	}
	return nil
}

func consumeOrders(t *testing.T, database string) error {
	client, err := openAs(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{NoCreate: true, Archive: true}})
	if err != nil {
		return err
	}
	if _, err := client.Pauses(t.Context(), "orders"); err != nil { // without, pauses are not kept
		return err
	}
	messages, err := client.Subscribe(t.Context(), "orders")
	if err != nil {
		return err
	}
	backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "orders_dead"})
	select {
	case <-messages:
		return errors.New("the message came back, and is no dead letter")
	case <-time.After(time.Second):
	}
	if err := client.Close(); err != nil {
		return err
	}
	if get[int](t, pgtest.Pool(t, database), "select count(*) from pgmq.q_orders") > 0 {
		return errors.New("the message is still there, and is no dead letter")
	}
	return nil
}

func operate(t *testing.T, database string) error {
	client, err := openAs(t, database, pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}})
	if err != nil {
		return err
	}
	_, listed := client.Queues(t.Context())
	_, measured := client.AllMetrics(t.Context())
	_, found := client.Find(t.Context(), "orders", byID())
	_, cancelled := client.Cancel(t.Context(), "orders", byID())
	letters, shown := client.DeadLetters(t.Context(), "orders_dead", backend.DeadLetterSelection{Limit: 1})
	_, counted := client.CountDeadLetters(t.Context(), "orders_dead", backend.DeadLetterSelection{})
	edited := shown
	if edited == nil {
		edited = client.EditDeadLetter(t.Context(), "orders_dead", backend.DeadLetterEdit{Row: letters[0].Row, Version: letters[0].Version(), Payload: []byte("1"), By: "ada"})
	}
	_, redriven := redrive(t.Context(), client, "orders_dead", 1)
	_, purged := purgeDeadLetters(t.Context(), client, "orders_dead")
	_, replayed := client.Replay(t.Context(), "orders", pgmq.ReplayFilter{})
	_, emptied := client.PurgeArchive(t.Context(), "orders", time.Now())
	_, paused := client.Pause(t.Context(), "orders", backend.Pause{By: "ada", Reason: "maintenance"})
	_, pausedLonger := client.Pause(t.Context(), "orders", backend.Pause{By: "ada", Reason: "maintenance"})
	_, resumed := client.Resume(t.Context(), "orders")
	schedules := client.Schedules()
	_, listedSchedules := schedules.List(t.Context())
	_, pausedSchedule := schedules.Pause(t.Context(), "weekly", backend.Pause{By: "ada", Reason: "maintenance"})
	_, resumedSchedule := schedules.Resume(t.Context(), "weekly")
	return errors.Join(listedSchedules, pausedSchedule, resumedSchedule, listed, measured, found, cancelled, shown, counted, edited, redriven, purged, replayed, emptied, paused, pausedLonger, resumed, operateBySQL(t, database, "orders"), watchSessions(t, database, true))
}

// operateBySQL runs what the page has an operator run.
func operateBySQL(t *testing.T, database, queue string) error {
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		return err
	}
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	for _, text := range []string{
		"as last_claim", "as deliveries", `"by hand"`, "as leased_for", "set vt = now(), read_ct = read_ct + 1", "order by msg_id limit 10000",
		"from pgmq.q_orders_dead group by", "from pgmq.a_orders where archived_at", "insert into pgmq.q_orders (vt", "select queue_name, bound_at",
	} {
		sql := regexp.MustCompile(`\b([qa])_orders\b`).ReplaceAllString(sqlBlock(t, text), "${1}_"+queue)
		if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// watchSessions looks at what another role does, and ends it.
func watchSessions(t *testing.T, database string, end bool) error {
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		return err
	}
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	other, err := pgx.Connect(t.Context(), pgtest.Role(t, asAdministrator(t, database)))
	require.NoError(t, err)
	defer func() { _ = other.Close(context.WithoutCancel(t.Context())) }()
	_, err = other.Exec(t.Context(), "select 'busy'")
	require.NoError(t, err)
	query, ended := "", !end
	if err := conn.QueryRow(t.Context(), "select query from pg_stat_activity where pid = $1", other.PgConn().PID()).Scan(&query); err != nil {
		return err
	}
	if query != "select 'busy'" {
		return fmt.Errorf("the other's query is shown as %q", query)
	}
	if end {
		if err := conn.QueryRow(t.Context(), "select pg_terminate_backend($1)", other.PgConn().PID()).Scan(&ended); err != nil {
			return err
		}
	}
	require.True(t, ended)
	return nil
}

// asAdministrator returns the URL of a database for the role that has created it.
func asAdministrator(t *testing.T, database string) string {
	t.Helper()
	server, err := url.Parse(pgtest.URL(t))
	require.NoError(t, err)
	mine, err := url.Parse(database)
	require.NoError(t, err)
	mine.User = server.User
	return mine.String()
}

// deduplicateOrders publishes with an ID, and with a key, which the second publish finds.
func deduplicateOrders(t *testing.T, database string) error {
	client, err := openAs(t, database, pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}})
	if err != nil {
		return err
	}
	for _, condition := range []*backend.PublishCondition{once(), unique("k"), replacing("k", 0)} {
		if err := client.Publish("orders", conditional(t.Context(), "a", condition, 0)); err != nil {
			return err
		}
	}
	return nil
}

func monitor(t *testing.T, database string) error {
	client, err := openAs(t, database, pgmq.Config{})
	if err != nil {
		return err
	}
	_, listed := client.Queues(t.Context())
	_, measured := client.AllMetrics(t.Context())
	_, pauses := client.AllPauses(t.Context())
	return errors.Join(listed, measured, pauses, watchSessions(t, database, false))
}

func support(t *testing.T, database string) error {
	client, err := openAs(t, database, pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}})
	if err != nil {
		return err
	}
	_, found := client.Find(t.Context(), "orders", backend.Selection{ID: "order 7"})
	_, cancelled := client.Cancel(t.Context(), "orders", backend.Selection{ID: "orders/1"})
	_, rescheduled := client.Reschedule(t.Context(), "orders", backend.Selection{ID: "orders/1"}, time.Now())
	return errors.Join(found, cancelled, rescheduled)
}

func openAs(t *testing.T, database string, config pgmq.Config) (*pgmq.Client, error) {
	client, err := pgmq.Open(t.Context(), database, &config)
	if err == nil {
		t.Cleanup(func() { assert.NoError(t, client.Close()) })
	}
	return client, err
}

// ordersDatabase returns a database as docs/postgres.md has it.
func ordersDatabase(t *testing.T) string {
	t.Helper()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "select pgmq.create('orders'), pgmq.create('orders_dead'), pgmq.create('ezq_schedules')")
	execute(t, pool, "create table pgmq.ezq_ids (key bytea primary key, until timestamptz not null)")
	execute(t, pool, sqlBlock(t, "create table if not exists pgmq.ezq_pauses"))
	execute(t, pool, "create index on pgmq.q_orders (left(headers->>'ezq_unique', 400)) where jsonb_typeof(headers->'ezq_unique') = 'string'")
	execute(t, pool, `insert into pgmq.q_orders (vt, message) values (now(), '{}')`)
	beginSchedule(t, database)
	execute(t, pool, `insert into pgmq.q_orders_dead (vt, message, headers)
		values (now(), '{}', '{"ezq_queue":"orders","topic_poisoned":"orders"}')`)
	return database
}

// beginSchedule makes the schedule known that operators pause, and publishes nothing.
func beginSchedule(t *testing.T, database string) {
	t.Helper()
	begin := backend.WithScheduleTick(t.Context(), &backend.ScheduleTick{Schedule: "weekly", At: time.Now()})
	require.NoError(t, openAt(t, database, pgmq.Config{}).Publish("orders", message.NewMessageWithContext(begin, "1", []byte("{}"))))
}

func TestGrants_DocumentedSuffice(t *testing.T) {
	t.Parallel()
	for role, use := range documented() {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			database := ordersDatabase(t)
			require.NoError(t, use(t, pgtest.Role(t, database, grantsOf(t, role)...)))
		})
	}
}

func TestGrants_DocumentedAreAllNeeded(t *testing.T) {
	t.Parallel()
	for role, use := range documented() {
		grants := grantsOf(t, role)
		for i, grant := range grants {
			t.Run(grant, func(t *testing.T) {
				t.Parallel()
				database := ordersDatabase(t)
				without := slices.Delete(slices.Clone(grants), i, i+1)
				require.Error(t, use(t, pgtest.Role(t, database, without...)))
			})
		}
	}
}

// The rights of a publisher are to what it has to say. With a right to the whole table it could
// take the ids that others get next, or pass for a consumer.
func TestGrants_LetPublisherWriteNoIDOrCount(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"ezq_publisher", "ezq_sender"} {
		database := ordersDatabase(t)
		conn, err := pgx.Connect(t.Context(), pgtest.Role(t, database, grantsOf(t, role)...))
		require.NoError(t, err)
		for _, column := range []string{"msg_id", "read_ct", "enqueued_at", "last_read_at"} {
			_, err := conn.Exec(t.Context(), fmt.Sprintf("insert into pgmq.q_orders (%s, vt, message) overriding system value values (default, now(), '{}')", column))
			require.ErrorContains(t, err, "SQLSTATE 42501", column)
		}
		require.NoError(t, conn.Close(t.Context()))
	}
}

func TestGrants_ShowMonitorNoMessage(t *testing.T) {
	t.Parallel()
	database := ordersDatabase(t)
	conn, err := pgx.Connect(t.Context(), pgtest.Role(t, database, grantsOf(t, "ezq_monitor")...))
	require.NoError(t, err)
	for _, table := range []string{"q_orders", "a_orders", "q_orders_dead"} {
		for _, column := range []string{"message", "headers", "msg_id"} {
			_, err := conn.Exec(t.Context(), "select "+column+" from pgmq."+table)
			require.ErrorContains(t, err, "SQLSTATE 42501", table, column)
		}
	}
	require.NoError(t, conn.Close(t.Context()))
}

// A revoke of a role that does not own the queue is a warning and nothing else, as the page says.
func TestGrants_OnlyOwnerStopsPublishers(t *testing.T) {
	t.Parallel()
	database := ordersDatabase(t)
	publisher := pgtest.Role(t, database, grantsOf(t, "ezq_publisher")...)
	name, err := url.Parse(publisher)
	require.NoError(t, err)
	revoke := strings.ReplaceAll(sqlBlock(t, "revoke insert on"), "ezq_publisher", pgx.Identifier{name.User.Username()}.Sanitize())
	operator := pgtest.Pool(t, pgtest.Role(t, database, grantsOf(t, "ezq_operator")...))
	execute(t, operator, revoke)
	require.NoError(t, publishOrder(t, publisher))
	execute(t, pgtest.Pool(t, database), revoke)
	require.ErrorIs(t, publishOrder(t, publisher), pgmq.ErrRejected)
}

func TestGrants_OfPublisherCoverEachGroupQueue(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	require.NoError(t, group(t, database, "mail").SubscribeInitialize("orders"))
	queue, err := pgmq.GroupQueueName("orders", "mail")
	require.NoError(t, err)
	grants := []string{
		"grant usage on schema pgmq to {role}", "grant select on pgmq.topic_bindings to {role}",
		"grant insert (vt, message, headers) on pgmq.q_" + queue + " to {role}",
	}
	require.NoError(t, publishOrder(t, pgtest.Role(t, database, grants...)))
	for i := range grants {
		require.ErrorIs(t, publishOrder(t, pgtest.Role(t, database, slices.Delete(slices.Clone(grants), i, i+1)...)), pgmq.ErrPermission)
	}
}

func TestPublish_NamesRemedyForTakenIDs(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publish(t, client, "a")
	for _, remedy := range []string{
		"delete from pgmq.q_t where msg_id > (select last_value from pgmq.q_t_msg_id_seq)",
		"select setval('pgmq.q_t_msg_id_seq', max(msg_id)) from pgmq.q_t",
	} {
		execute(t, pool, "insert into pgmq.q_t (msg_id, vt, message) overriding system value select n, now(), '0' from generate_series(2, 1000) as n")
		err := client.Publish("t", message.NewMessage("b", nil))
		require.ErrorIs(t, err, pgmq.ErrRejected)
		for _, part := range []string{"(select last_value from pgmq.q_t_msg_id_seq)", "select setval('pgmq.q_t_msg_id_seq', max(msg_id)) from pgmq.q_t", "INSERT (vt, message, headers)"} {
			require.ErrorContains(t, err, part)
		}
		execute(t, pool, remedy)
		publish(t, client, "b")
		execute(t, pool, "delete from pgmq.q_t")
		execute(t, pool, "select setval('pgmq.q_t_msg_id_seq', 1)")
	}
	// To go on after the last id there can be is to publish nothing more: it has to be deleted first.
	execute(t, pool, "insert into pgmq.q_t (msg_id, vt, message) overriding system value select n, now(), '0' from unnest(array[2, 3, 9223372036854775807]) as n")
	var taken *pgmq.Error
	require.ErrorAs(t, client.Publish("t", message.NewMessage("c", nil)), &taken)
	deleting, going := strings.Index(taken.Remedy, "delete"), strings.Index(taken.Remedy, "select setval")
	require.Positive(t, deleting)
	require.Greater(t, going, deleting)
	execute(t, pool, "delete from pgmq.q_t where msg_id = 9223372036854775807")
	execute(t, pool, "select setval('pgmq.q_t_msg_id_seq', max(msg_id)) from pgmq.q_t")
	publish(t, client, "c")
}

func TestGrants_OfGroupIncludeItsBinding(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	require.NoError(t, group(t, database, "mail").SubscribeInitialize("t"))
	const tables = "grant usage on schema pgmq to {role}; grant select, update, delete on all tables in schema pgmq to {role};"
	config := pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "mail", NoCreate: true}}
	may := openAt(t, pgtest.Role(t, database, tables), config)
	require.NoError(t, may.SubscribeInitialize("t"))
	mayNot := openAt(t, pgtest.Role(t, database, tables, "revoke select on pgmq.topic_bindings from {role}"), config)
	require.ErrorIs(t, mayNot.SubscribeInitialize("t"), pgmq.ErrPermission)
}
