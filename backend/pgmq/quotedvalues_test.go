package pgmq_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// confidentialNumber is a value that numbers are made of.
const confidentialNumber = "73737373737373737373"

// quotingTypes are types whose casts fail for almost any text, and quote it.
func quotingTypes() []string {
	return []string{
		"int", "smallint", "bigint", "oid", "float8", "numeric", "boolean", "money", "date", "time", "timetz", "timestamp", "timestamptz", "interval",
		"uuid", "inet", "cidr", "macaddr", "json", "jsonb", "jsonpath", "int[]", "date[]", "bytea", "point", "box", "polygon", "bit(8)", "varbit",
		"int4range", "daterange", "int4multirange", "tsquery", "xid8", "pg_lsn", "pg_snapshot", "mood", "pair", "positive",
		"regclass", "regtype", "regrole", "regproc", "regprocedure", "regoper", "regnamespace", "regconfig", "xml",
	}
}

// quotingCalls are calls that quote their argument $.
func quotingCalls() []string {
	return []string{
		"to_date($, 'YYYY')", "to_timestamp($, 'Mon')", "to_number($, '9')", "now() at time zone $", "date_trunc($, now())", "date_part($, now())",
		"current_setting($)", "set_config($, '1', true)", "set_config('role', $, true)", "set_config('timezone', $, true)",
		"set_config('statement_timeout', $, true)", "regexp_match('x', '(' || $)", "decode($, 'base64')", "decode($, 'hex')", "decode('', $)",
		"convert_to('x', $)", "convert_from(convert_to($, 'utf8'), 'latin7')", "has_table_privilege($, 'select')", "has_table_privilege('pgmq.q_t', $)",
		"nextval($)", "pg_size_bytes($)", "parse_ident($ || '\"')", "make_interval(secs => $::float8)", "format('%' || $, 1)",
		"pg_read_file($)", "pgmq.validate_routing_key($)", "pgmq.validate_topic_pattern($)", "pg_read_file('/' || repeat($, 30))", "lo_import($)", "to_tsquery('(' || $)", "to_tsquery(repeat($, 300))",
		"json_populate_record(null::pair, json_build_object('a', $))", "jsonb_set('[1]', array[$], '1')", "query_to_xml($, true, true, '')",
		"array_position(string_to_array($, ',')::int[], 1)", "(regexp_split_to_array($, ''))[$::int]", "xmlparse(document $)", "chr(left(n, 9)::int)", "n::int", "n::numeric::int",
	}
}

// quotingPlaces returns statements that have expression evaluated where a message is stored.
func quotingPlaces(expression string) map[string]string {
	in := func(row, e string) string {
		e = strings.ReplaceAll(e, "$", "("+row+"message->>'s')")
		return strings.ReplaceAll(strings.ReplaceAll(e, "n::", "("+row+"message->>'n')::"), "left(n,", "left("+row+"message->>'n',")
	}
	function := func(body string) string {
		return "create function quoting(message jsonb) returns text immutable language plpgsql as $f$ begin " + body + " end $f$; "
	}
	trigger := func(body string) string {
		return "create function quoting() returns trigger language plpgsql as $f$ begin " + body + " return new; end $f$; " +
			"create trigger quoting before insert on pgmq.q_t for each row execute function quoting()"
	}
	call := function("return (" + in("", expression) + ")::text;")
	sql := strings.ReplaceAll(in("new.", expression), "'", "''")
	return map[string]string{
		"CHECK":             "alter table pgmq.q_t add check ((" + in("", expression) + ")::text <> 'x')",
		"function in CHECK": call + "alter table pgmq.q_t add check (quoting(message) <> 'x')",
		"index":             call + "create index on pgmq.q_t (quoting(message))",
		"generated column":  call + "alter table pgmq.q_t add g text generated always as (quoting(message)) stored",
		"trigger":           trigger("perform " + in("new.", expression) + ";"),
		"EXECUTE":           trigger("execute replace('select " + sql + "', 'new.', '$1.') using new;"),
		"rethrown":          trigger("begin perform " + in("new.", expression) + "; exception when others then raise; end;"),
	}
}

// executedTexts run what a message says as SQL.
func executedTexts() []string {
	return []string{
		"execute new.message->>'s'", "execute 'select ' || (new.message->>'s')", "execute format('select * from %I', new.message->>'s')",
		"execute format('select * from pgmq.%I', 'q_' || (new.message->>'s'))", "execute format('select %L::int', new.message->>'s')",
		"execute format('execute %I', new.message->>'s')", "execute format('set role %I', new.message->>'s')", "execute format('lock table %I', new.message->>'s')",
		"execute format('select %I()', new.message->>'s')", "execute format('create table pgmq.q_t.%I ()', new.message->>'s')",
		"assert false, new.message->>'s'",
		"raise exception using message = 'refused', detail = new.message::text, hint = new.message::text, table = 'q_' || (new.message->>'s')," +
			" schema = 'pgmq', errcode = '23505', column = new.message->>'s', constraint = (new.message->>'s') || '_pkey', datatype = new.message->>'s'",
	}
}

func newQuotingQueue(t *testing.T) (*pgmq.Client, *pgxpool.Pool, *logRecorder) {
	t.Helper()
	log := &logRecorder{}
	client, pool := open(t, pgmq.Config{Logger: log.logger(), Subscriber: pgmq.SubscriberConfig{LeaseOnly: true, NackDelay: time.Hour}})
	execute(t, pool, `create type mood as enum ('a'); create type pair as (a int, b int); create domain positive as int check (value > 0)`)
	require.NoError(t, client.SubscribeInitialize("t"))
	return client, pool, log
}

// quotingMessage has the canary among other characters.
func quotingMessage(random *rand.Rand) *message.Message {
	characters := []rune("x(y'\"\\{[%:.,; \n\té\u2028-1")
	forged := []string{" pgmq.create() x", " pgmq.create(text) line 5 at EXECUTE", "\nPL/pgSQL function pgmq.create(text) line 5 at EXECUTE", "\nPL/pgSQL function pgmq.create(text) line 5 at EXECUTE\n"}
	around := func() string {
		var text strings.Builder
		if random.IntN(4) == 0 {
			text.WriteString(forged[random.IntN(len(forged))])
		}
		for range random.IntN(4) {
			text.WriteRune(characters[random.IntN(len(characters))])
		}
		return text.String()
	}
	payload, _ := json.Marshal(map[string]string{"s": around() + confidential + around(), "n": confidentialNumber})
	return newJSONMessage(payload)
}

func newJSONMessage(payload []byte) *message.Message {
	msg := message.NewMessage("1", payload)
	msg.Metadata.Set("content-type", "application/json")
	return msg
}

// requireQuotesNothing fails if err shows what the message says. It reports whether there is an error
// that has it for those who ask.
func requireQuotesNothing(t *testing.T, err error, of string) bool {
	t.Helper()
	if err == nil {
		return false
	}
	asJSON, _ := json.Marshal(err) //nolint:errchkjson // whatever it yields is what a log would show
	text := strings.ToLower(fmt.Sprintf("%v %+v %#v %s %v", err, err, err, asJSON, errors.Join(err)))
	require.NotContains(t, text, confidential, of)
	require.NotContains(t, text, confidentialNumber[:9], of)
	pg, ok := errors.AsType[*pgconn.PgError](err)
	require.True(t, ok, "%s: %v", of, err)
	all := strings.ToLower(fmt.Sprintf("%+v", *pg))
	return strings.Contains(all, confidential) || strings.Contains(all, confidentialNumber[:9])
}

func TestError_QuotesNoValueThatACastRefuses(t *testing.T) {
	t.Parallel()
	expressions := quotingCalls()
	for _, name := range quotingTypes() {
		expressions = append(expressions, "$::"+name)
	}
	for place := range quotingPlaces("$") {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			client, pool, log := newQuotingQueue(t)
			random := rand.New(rand.NewPCG(1, uint64(len(place))))
			quoted := 0
			for _, expression := range expressions {
				if _, err := pool.Exec(t.Context(), quotingPlaces(expression)[place]); err != nil {
					t.Logf("%s: %v", expression, err)
					continue
				}
				if requireQuotesNothing(t, client.Publish("t", quotingMessage(random)), expression) {
					quoted++
				}
				restoreQueue(t, pool)
			}
			require.Greater(t, quoted, 60, "PostgreSQL does quote them")
			log.assertNoSecret(t)
		})
	}
}

// restoreQueue takes everything off the queue that a test has put on it. An index would be made of rows that were only
// deleted, too, as long as another transaction sees them.
func restoreQueue(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	execute(t, pool, `truncate pgmq.q_t; do $$ declare name text; begin
		for name in select conname from pg_constraint where conrelid = 'pgmq.q_t'::regclass and contype = 'c' loop
			execute format('alter table pgmq.q_t drop constraint %I', name); end loop;
		for name in select indexrelid::regclass from pg_index where indrelid = 'pgmq.q_t'::regclass and indexprs is not null loop
			execute 'drop index ' || name; end loop;
		end $$;
		alter table pgmq.q_t drop column if exists g;
		drop trigger if exists quoting on pgmq.q_t;
		drop function if exists quoting();
		drop function if exists quoting(jsonb)`)
}

func TestError_QuotesNoTextThatATriggerExecutes(t *testing.T) {
	t.Parallel()
	client, pool, log := newQuotingQueue(t)
	random := rand.New(rand.NewPCG(1, 2))
	for _, statement := range executedTexts() {
		execute(t, pool, "create function quoting() returns trigger language plpgsql as $f$ begin "+statement+"; return new; end $f$; "+
			"create trigger quoting before insert on pgmq.q_t for each row execute function quoting()")
		for range 5 {
			err := client.Publish("t", quotingMessage(random))
			require.True(t, requireQuotesNothing(t, err, statement), "%s: %v", statement, err)
			if !strings.HasPrefix(statement, "raise") {
				require.ErrorContains(t, err, " in line 1 of quoting", "it says where to look")
			}
		}
		restoreQueue(t, pool)
	}
	log.assertNoSecret(t)
}

// Another role's message is refused when it is leased, acked, archived, or moved to another queue.
func TestLog_QuotesNoValueThatACastRefuses(t *testing.T) {
	t.Parallel()
	const refuse = "alter table pgmq.%s add check ((message->>'s')::int > 0) not valid"
	for name, test := range map[string]struct {
		config  pgmq.SubscriberConfig
		sql     string
		settle  func(*message.Message)
		outcome string
	}{
		"leased": {sql: fmt.Sprintf(refuse, "q_t"), outcome: "refuses to lease a message"},
		"acked": {
			sql: "create function quoting() returns trigger language plpgsql as 'begin perform (old.message->>''s'')::date; return old; end';" +
				"create trigger quoting before delete on pgmq.q_t for each row execute function quoting()",
			settle: func(msg *message.Message) { msg.Ack() }, outcome: "SQLSTATE 22007",
		},
		"archived": {
			config: pgmq.SubscriberConfig{Archive: true}, sql: fmt.Sprintf(refuse, "a_t"),
			settle: func(msg *message.Message) { msg.Ack() }, outcome: "SQLSTATE 22P02",
		},
		"dead-lettered": {
			sql:     "select pgmq.create('t_dead'); " + fmt.Sprintf(refuse, "q_t_dead"),
			settle:  func(msg *message.Message) { backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "t_dead"}) },
			outcome: "SQLSTATE 22P02",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &logRecorder{}
			test.config.LeaseOnly, test.config.NackDelay = true, time.Hour
			client, pool := open(t, pgmq.Config{Logger: log.logger(), Subscriber: test.config})
			require.NoError(t, client.SubscribeInitialize("t"))
			execute(t, pool, `insert into pgmq.q_t (vt, message) select now(), '{"s":"`+confidential+`"}'`)
			execute(t, pool, test.sql)
			publishJSON(t, client, `{"s":"1"}`, 3)
			messages := subscribe(t, client)
			for test.settle != nil {
				msg := receive(t, messages)
				test.settle(msg)
				if strings.Contains(string(msg.Payload), confidential) {
					break
				}
			}
			log.requireLogged(t, test.outcome)
			require.NoError(t, client.Close())
			pgtest.Eventually(t, patience, "all is logged", func() bool { return strings.Contains(log.String(), test.outcome) })
			log.assertNoSecret(t)
		})
	}
}
