package ezqtest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/ezqtest"
)

func TestFlow_KnowsWhatConditionsStore(t *testing.T) {
	t.Parallel()
	var client backend.Backend
	build := func(on backend.Backend) *ezq.Router {
		client = on
		return ignoring(on)
	}
	ezqtest.Run(t, build, func(f *ezqtest.Flow) {
		publish := func(order int, options ...ezq.PublishOption) {
			require.NoError(t, ezq.Publish(f.Context(), client, orderPaid{order}, options...))
		}
		for order := range 3 {
			publish(order, ezq.Delay(time.Hour), ezq.Unique("unique"))
		}
		for range 2 {
			publish(10, ezq.ID("id"))
			f.AwaitIdle()
		}
		ezqtest.Published[orderPaid](f).Equal(orderPaid{0}, orderPaid{10})
		ezqtest.Handled[orderPaid](f).Equal(orderPaid{10})

		for order := 20; order < 23; order++ {
			publish(order, ezq.Delay(2*time.Hour), ezq.Replace("replace"))
			publish(10+order, ezq.Delay(20*time.Minute), ezq.Debounce("debounce", time.Hour))
			f.Advance(15 * time.Minute)
		}
		ezqtest.Handled[orderPaid](f).Equal(orderPaid{10})
		f.Advance(15 * time.Minute)
		ezqtest.Handled[orderPaid](f).Equal(orderPaid{10}, orderPaid{32}, orderPaid{0})
		f.Advance(time.Hour)
		ezqtest.Handled[orderPaid](f).Equal(orderPaid{10}, orderPaid{32}, orderPaid{0}, orderPaid{22})
	})
}
