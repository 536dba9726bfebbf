package pgmq_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
)

// Many services that begin at once bind the queues of their groups, and each binding makes the routes of all topics old.
func TestPublish_GoesOnWhileGroupsOfOtherTopicsCome(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('other')")
	ctx, stop := context.WithCancel(t.Context())
	var binding sync.WaitGroup
	binding.Go(func() {
		for i := range 60 {
			_, err := pool.Exec(context.WithoutCancel(ctx), fmt.Sprintf("select pgmq.bind_topic('other.%d', 'other')", i))
			assert.NoError(t, err)
			<-time.After(5 * time.Millisecond)
		}
	})
	defer binding.Wait()
	defer stop()
	for i := range 30 {
		require.NoError(t, client.Publish(fmt.Sprintf("t%d", i%3), message.NewMessage(fmt.Sprint(i), nil)))
	}
	requireCount(t, pool, "pgmq.q_t0", 10)
}
