package subscription_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
)

func TestOutage_IsReportedWithin5Seconds(t *testing.T) {
	for name, trouble := range map[string]fault{
		"a store that reports errors is an outage":  {err: errStore},
		"a store that does not answer is an outage": {wait: hang},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.config.PollMin, env.config.PollMax = pollMin, pollMax
				reported := make(chan error, 100)
				ctx := backend.WithConsumer(t.Context(), backend.Consumer{Health: func(err error) { reported <- err }})
				c := env.subscribeAs("A", ctx)
				time.Sleep(time.Minute)
				require.Empty(t, reported, "nothing is wrong")

				c.inject(trouble, claiming)
				time.Sleep(5 * time.Second)
				require.Error(t, <-reported)
				time.Sleep(time.Minute)
				for len(reported) > 0 {
					require.Error(t, <-reported, "it lasts")
				}
				c.clearFaults()
				time.Sleep(operation + 2*time.Second)
				var last error
				for len(reported) > 0 {
					last = <-reported
				}
				require.NoError(t, last)
				require.Equal(t, 1, env.logs.count("receiving again"))
				time.Sleep(time.Minute)
				require.Empty(t, reported)
			})
		})
	}
}
