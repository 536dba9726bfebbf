package subscription_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
)

func TestMaxInFlight_FollowsConsumerConcurrency(t *testing.T) {
	for name, test := range map[string]struct {
		concurrency, maxInFlight, want int
		logged                         int
	}{
		"the consumer sets the limit":                           {concurrency: 300, want: 300},
		"without a setting the limit is 100":                    {want: 100},
		"MaxInFlight is the limit if only that is set":          {maxInFlight: 150, want: 150},
		"a consumer may want less than MaxInFlight":             {concurrency: 20, maxInFlight: 30, want: 20},
		"a consumer that wants more than MaxInFlight is logged": {concurrency: 30, maxInFlight: 20, want: 20, logged: 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.config.MaxInFlight = test.maxInFlight
				ctx := backend.WithConsumer(t.Context(), backend.Consumer{Concurrency: test.concurrency})
				c := env.subscribeAs("A", ctx)
				env.store.publish(2 * test.want)
				for range test.want {
					msg := c.receive()
					defer c.ack(msg)
				}
				c.requireNone()
				require.Equal(t, test.logged, env.logs.count("because of MaxInFlight"))
			})
		})
	}
}
