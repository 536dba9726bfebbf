package command

import (
	"context"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// The tests of backend/pgmq show of the grants on that page that they suffice, and that each is needed.
func TestGrants_AreThoseOfThePage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../../docs/postgres.md")
	require.NoError(t, err)
	optional := regexp.MustCompile(`q_audit|\bapp\b|insert, update on pgmq.ezq_pauses`)
	for role, flags := range map[string][]string{
		"ezq_owner": {"--own"}, "ezq_publisher": {"--publish=orders"}, "ezq_sender": {"--send=orders"}, "ezq_scheduler": {"--schedule=orders"},
		"ezq_deduplicator": {"--condition=orders"}, "ezq_consumer": {"--consume=orders"}, "ezq_operator": {"--operate=orders"},
		"ezq_monitor": {"--monitor=orders"}, "ezq_support": {"--support=orders"},
	} {
		code, out, errOut := outputOn(t, nil, "", append([]string{"grants", "--role", role}, flags...)...)
		require.Zero(t, code, errOut)
		var shown []string
		for line := range strings.SplitSeq(string(page), "\n") {
			if strings.HasPrefix(line, "grant ") && strings.HasSuffix(line, " to "+role+";") && !optional.MatchString(line) {
				shown = append(shown, strings.TrimSuffix(line, role+";")+`"`+role+`";`)
			}
		}
		require.Equal(t, shown, strings.Split(strings.TrimSpace(out), "\n"), role)
	}
}

func TestGrants_AreEnoughOnceApplied(t *testing.T) {
	t.Parallel()
	database := pgtest.EmptyDatabase(t)
	code, _, errOut := installInto(t, database, "--yes")
	require.Zero(t, code, errOut)
	owner, err := pgmq.Open(t.Context(), database, &pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "mailer"}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = owner.Close() })
	require.NoError(t, owner.SubscribeInitialize("orders"))
	pgtest.Exec(t, pgtest.Pool(t, database), "select pgmq.create('orders_dead')")
	app := pgtest.Role(t, database)
	u, err := url.Parse(app)
	require.NoError(t, err)

	config := &pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}, Subscriber: pgmq.SubscriberConfig{Group: "mailer", NoCreate: true}}
	grants := []string{"grants", "--role", u.User.Username(), "--publish", "orders", "--consume", "orders", "--group", "mailer"}
	code, before, errOut := outputOf(t, database, grants...)
	require.Zero(t, code, errOut)
	client, err := pgmq.Open(t.Context(), app, config)
	if err == nil {
		_ = client.Close()
	}
	require.ErrorIs(t, err, pgmq.ErrPermission, "nothing is applied yet")
	code, _, errOut = outputOf(t, app, append(grants, "--apply")...)
	require.Equal(t, exitFailed, code)
	require.Regexp(t, `permission denied`, errOut)
	code, out, errOut := outputOf(t, database, append(grants, "--apply")...)
	require.Zero(t, code, errOut)
	require.Equal(t, before, out)

	client, err = pgmq.Open(t.Context(), app, config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	messages, err := client.Subscribe(ctx, "orders")
	require.NoError(t, err)
	require.NoError(t, client.Publish("orders", message.NewMessage("1", []byte("{}"))))
	(<-messages).Ack()
}

func TestGrants_CoverAllQueuesThatAreBound(t *testing.T) {
	t.Parallel()
	database := pgtest.EmptyDatabase(t)
	code, _, errOut := installInto(t, database, "--yes")
	require.Zero(t, code, errOut)
	pgtest.Exec(t, pgtest.Pool(t, database), `select pgmq.create('orders'), pgmq.create('audit'), pgmq.create('other');
		select pgmq.bind_topic('#', 'audit'), pgmq.bind_topic('payments', 'other')`)
	code, out, errOut := outputOf(t, database, "grants", "--role", "shop", "--publish", "orders")
	require.Zero(t, code, errOut)
	require.Contains(t, out, `on pgmq.q_orders to "shop"`)
	require.Contains(t, out, `on pgmq.q_audit to "shop"`)
	require.NotContains(t, out, "q_other")
	code, out, errOut = outputOf(t, database, "grants", "--role", "shop", "--publish", "orders", "--offline")
	require.Zero(t, code, errOut)
	require.NotContains(t, out, "q_audit")
}

func TestGrants_RunNoSQLOfTheirArguments(t *testing.T) {
	t.Parallel()
	code, out, errOut := outputOn(t, nil, "", "grants", "--role", `x"; drop table y; --`, "--consume", `orders"; drop table z; --`)
	require.Zero(t, code, errOut)
	require.Contains(t, out, ` to "x""; drop table y; --";`)
	require.NotContains(t, out, `drop table z`)
}

func TestGrants_SayWhatIsMissing(t *testing.T) {
	t.Parallel()
	database := pgtest.EmptyDatabase(t)
	code, _, errOut := installInto(t, database, "--yes")
	require.Zero(t, code, errOut)
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--publish", "orders"}, exitUsage, "name the role with --role"},
		{[]string{"--role", "shop"}, exitUsage, "say what the role is for"},
		{[]string{"--role", "shop", "--own", "--apply", "--offline"}, exitUsage, "--apply is for a database"},
		{[]string{"--role", "postgres", "--publish", "orders", "--apply"}, exitFailed, "nothing was granted: create it first, with ezq install or ezq init"},
		{[]string{"--role", "no_such_role", "--own", "--apply"}, exitFailed, "create the role first"},
		{[]string{"--role", "shop", "--publish", "", "--offline"}, exitFailed, "topic"},
	} {
		code, _, errOut := outputOf(t, database, append([]string{"grants"}, test.args...)...)
		require.Equal(t, test.code, code, test.args)
		require.Contains(t, errOut, test.want)
	}
}
