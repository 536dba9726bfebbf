package lease

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// Whatever a message consists of, it takes no more than twice of what it counts.
// Not parallel: the heap is that of all tests.
//
//nolint:paralleltest // see above
func TestSize_IsWhatMessageTakes(t *testing.T) {
	most := 0.0
	rapid.Check(t, func(t *rapid.T) {
		body, headers := drawBody(t), drawHeaders(t)
		known := rapid.Bool().Draw(t, "known")
		messages := min(300, 10+(2<<20)/(1+len(body)+len(headers))) // enough to be measured
		before := memory()
		held := make([]*inFlight, messages)
		counted := 0
		for i := range held {
			held[i] = newInFlight(body, headers, known)
			counted += held[i].lease.Size
		}
		took := memory() - before
		for _, one := range held {
			one.end()
		}
		most = max(most, float64(took)/float64(counted))
		require.LessOrEqual(t, took, int64(2*counted), "%d bytes each of %d that count, of %.60s with headers %.60s", took/int64(messages), counted/messages, body, headers)
	})
	t.Logf("up to %.2f times of what is counted", most)
}

func drawBody(t *rapid.T) string {
	length := rapid.SampledFrom([]int{0, 1, 20, 300, 5000, 40_000}).Draw(t, "bytes of the body")
	text := rapid.SampledFrom([]string{"x", `\u0001`, "ä", `\"`}).Draw(t, "text")
	return `"` + strings.Repeat(text, length/len(text)) + `"`
}

// drawHeaders returns headers as PostgreSQL writes them: few or many, of short or long names.
func drawHeaders(t *rapid.T) string {
	entries := rapid.OneOf(rapid.IntRange(0, 130), rapid.IntRange(0, 1200)).Draw(t, "headers")
	width := rapid.SampledFrom([]int{2, 2, 3, 7, 17, 33}).Draw(t, "bytes of a name")
	value := rapid.SampledFrom([]string{`1`, `""`, `"x"`, `12`, `null`, `[1, 2]`, `"\n"`, `"` + strings.Repeat("v", 33) + `"`}).Draw(t, "value")
	parts := make([]string, 0, entries+2)
	for i := range entries {
		name, err := json.Marshal(fmt.Sprintf("%0*x", width, i))
		require.NoError(t, err)
		parts = append(parts, string(name)+": "+value)
	}
	if done := rapid.OneOf(rapid.Just(0), rapid.IntRange(0, 2000)).Draw(t, "handlers that are done"); done > 0 {
		name := rapid.SampledFrom([]string{`""`, `"h"`, `"another"`, `1`}).Draw(t, "name of a handler")
		parts = append(parts, `"ezq_done": [`+strings.Repeat(name+", ", done-1)+name+"]")
	}
	if rapid.Bool().Draw(t, "with an id") {
		parts = append(parts, `"ezq_uuid": "`+strings.Repeat("u", rapid.IntRange(1, backend.MaxID).Draw(t, "bytes of the id"))+`"`)
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// inFlight is a message as a subscription has it.
type inFlight struct {
	lease  subscription.Lease
	cancel context.CancelCauseFunc
	ended  chan struct{}
}

func newInFlight(body, headers string, known bool) *inFlight {
	row := Row{ID: 1, Number: 1, Message: []byte(body), Headers: []byte(headers), Known: known}
	one := &inFlight{ended: make(chan struct{})}
	one.lease, _ = row.lease("t", "t", nil, &delivery{})
	ctx, cancel := context.WithCancelCause(backend.WithDelivery(context.Background(), one.lease.Delivery))
	one.cancel = cancel
	one.lease.Message.SetContext(ctx)
	go func() {
		<-one.lease.Message.Acked()
		close(one.ended)
	}()
	return one
}

func (one *inFlight) end() {
	one.lease.Message.Ack()
	<-one.ended
	one.cancel(nil)
}

func memory() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc + stats.StackInuse)
}
