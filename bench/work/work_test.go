package work

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/bench/contender"
	"github.com/ezq-go/ezq/bench/result"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func tiny() Scale {
	return Scale{
		Rounds: 1, Publish: 30 * time.Millisecond, Drain: 300, Deep: 600, Stale: 300, Limit: 20 * time.Second,
		Latency: 50 * time.Millisecond, Idle: 50 * time.Millisecond,
	}
}

func newLab(t *testing.T) *Lab {
	t.Helper()
	lab, err := NewLab(t.Context(), pgtest.Database(t), tiny())
	require.NoError(t, err)
	t.Cleanup(lab.Close)
	return lab
}

func TestContender_DoesEveryTaskItEnters(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	contenders := make(map[string]contender.Contender)
	for _, c := range contender.All() {
		contenders[c.Name] = c
	}
	all := map[string]bool{"publish-32": true, "drain": true, "in-process": true}
	for _, w := range All(tiny()) {
		for _, e := range w.Entrants {
			// All contenders do some of the work, and all of the work is done by one: the rest is the same.
			if !all[w.Name] && e.Name != w.Reference {
				continue
			}
			t.Run(w.Name+"/"+e.Name, func(t *testing.T) {
				t.Parallel()
				values, err := e.task.run(t.Context(), lab, contenders[e.Contender])
				require.NoError(t, err)
				require.Contains(t, values, w.Metric)
			})
		}
	}
}

// faulty is a contender that does something wrong.
type faulty struct {
	contender.Queue
	publish func(contender.Publisher, contender.Message) error
	handle  func(id int, handle func(id int))
}

func (f *faulty) Publish(ctx context.Context, m contender.Message) error {
	publisher := f.Queue.(contender.Publisher)
	if f.publish != nil {
		return f.publish(publisher, m)
	}
	return publisher.Publish(ctx, m)
}

func (f *faulty) PublishBatch(ctx context.Context, messages []contender.Message) error {
	return f.Queue.(contender.BatchPublisher).PublishBatch(ctx, messages)
}

func (f *faulty) Consume(ctx context.Context, handle func(id int)) (func() error, error) {
	return f.Queue.(contender.Consumer).Consume(ctx, func(id int) { f.handle(id, handle) })
}

// withFault returns ezq/pgmq with something wrong.
func withFault(t *testing.T, f faulty) contender.Contender {
	t.Helper()
	for _, c := range contender.All() {
		if c.Name == ezqChannel {
			open := c.Open
			c.Open = func(ctx context.Context, env contender.Env) (contender.Queue, error) {
				queue, err := open(ctx, env)
				f.Queue = queue
				return &f, err
			}
			return c
		}
	}
	t.Fatal("there is no " + ezqChannel)
	return contender.Contender{}
}

func TestContender_LosingOrDuplicatingIsDetected(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	lab.scale.Limit = 500 * time.Millisecond // one that loses is waited for in vain
	var published atomic.Int64
	for name, c := range map[string]struct {
		task  task
		fault faulty
		wrong string
	}{
		"acks what was never handled": {
			drain{fill: 100, size: 100},
			faulty{handle: func(id int, handle func(int)) {
				if id%10 != 3 {
					handle(id)
				}
			}},
			"lost 10 of 100",
		},
		"handles some twice": {
			drain{fill: 100, size: 100},
			faulty{handle: func(id int, handle func(int)) {
				handle(id)
				if id == 7 {
					handle(id)
				}
			}},
			"handled 1 of 100 more than once",
		},
		"says that it has published what it has not": {
			publish{goroutines: 1, size: 100},
			faulty{publish: func(p contender.Publisher, m contender.Message) error {
				if published.Add(1)%5 == 1 { // also where a slow machine publishes few
					return nil
				}
				return p.Publish(t.Context(), m)
			}},
			"are stored",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := c.task.run(t.Context(), lab, withFault(t, c.fault))
			require.ErrorContains(t, err, c.wrong)
		})
	}
}

func TestSample_RecordsProblem(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	w := Work{Name: "w", Metric: result.Rate, Entrants: []Entrant{
		{"good", ezqChannel, drain{fill: 10, size: 100}},
		{"bad", "nothing", drain{fill: 10, size: 100}},
	}}
	measured, err := lab.Run(t.Context(), []Work{w}, t.Output())
	require.NoError(t, err)
	require.Empty(t, measured[0].Outcomes[0].Problem())
	require.Equal(t, errCannot.Error(), measured[0].Outcomes[1].Problem())
}
