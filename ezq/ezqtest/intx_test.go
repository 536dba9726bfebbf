package ezqtest_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/backend/pgmq/pgmqtest"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/ezqtest"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestTxMiddleware_AppliesEffectOnceDespiteDisturbance(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(*ezqtest.Flow, int){
		"a duplicated delivery":          (*ezqtest.Flow).Duplicate,
		"a delivery that crashes":        (*ezqtest.Flow).Crash,
		"a delivery whose lease expires": (*ezqtest.Flow).LoseLease,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			pool := pgtest.Pool(t, database)
			_, err := pool.Exec(t.Context(), "create table account as select 0 as balance")
			require.NoError(t, err)
			queue := pgmqtest.Open(t, database, nil)

			build := func(on backend.Backend) *ezq.Router {
				router := ezq.NewRouter(on, &quiet)
				ezq.Handle(router, func(ctx context.Context, e orderPaid) error {
					if _, err := pgmq.TxFromContext(ctx).Exec(ctx, "update account set balance = balance + $1", e.Order); err != nil {
						return err
					}
					return ezq.Publish(ctx, on, invoiceCreated(e), ezq.Topic("invoices")) // where it may crash
				}, ezq.Use(queue.TxMiddleware()))
				return router
			}
			ezqtest.RunOn(t, queue, build, func(f *ezqtest.Flow) {
				disturb(f, 1)
				f.Publish(orderPaid{100})
				f.AwaitIdle()
			})
			var balance int
			require.NoError(t, pool.QueryRow(t.Context(), "select balance from account").Scan(&balance))
			require.Equal(t, 100, balance)
		})
	}
}
