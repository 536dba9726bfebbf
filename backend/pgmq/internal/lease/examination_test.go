package lease

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

func TestExamination_LogsWhichLeaseCannotBeExtended(t *testing.T) {
	t.Parallel()
	s, pool, leases := claimTwenty(t)
	var log bytes.Buffer
	s.queue.logger = slog.New(slog.NewTextHandler(&log, nil))
	requireAllButOne(t, pool, leases, "select msg_id from pgmq.q_t where vt > now() + interval '90 minutes'", func(rest []subscription.Lease) {
		var some []suspect
		for _, l := range rest {
			row := Row{ID: l.ID, Number: int32(l.Number), ReadAt: l.At}
			some = append(some, suspect{unread: unread{row: row}, lease: 2 * time.Hour, until: time.Now().Add(time.Minute)})
		}
		s.claims.examination.extend(t.Context(), pool, some)
	})
	require.Contains(t, log.String(), "cannot have its lease extended, and comes back when its lease ends")
	require.Contains(t, log.String(), " msg_id=7 messages=1 ")
}
