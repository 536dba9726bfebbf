package soak_test

import (
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/faultproxy"
)

// fault is one thing that can go wrong. It is over when do returns.
type fault struct {
	name string
	do   func(s *soak)
}

func faults() []fault {
	return []fault{
		{"server killed", func(s *soak) { s.server.Kill9(); s.server.StartAgain() }},
		{"server stopped immediately", func(s *soak) { s.server.StopImmediate(); s.server.StartAgain() }},
		{"server restarted", func(s *soak) { s.server.StopFast(); s.server.StartAgain() }},
		{"one of its processes killed", func(s *soak) { s.server.KillOne() }},
		{"half of the sessions terminated, five times", func(s *soak) {
			for range 5 {
				s.server.Execute("select pg_terminate_backend(pid) " + others + " and random() < 0.5")
				pause(50 * time.Millisecond)
			}
		}},
		{"statements cancelled, ten times", func(s *soak) {
			for range 10 {
				s.server.Execute("select pg_cancel_backend(pid) " + others)
				pause(20 * time.Millisecond)
			}
		}},
		{"connections reset, five times", func(s *soak) {
			for range 5 {
				s.proxy.ResetAll()
				pause(50 * time.Millisecond)
			}
		}},
		{"replies lost", func(s *soak) { s.proxy.Swallow(faultproxy.ToClient); s.broken(60 * time.Millisecond) }},
		{"requests lost", func(s *soak) { s.proxy.Swallow(faultproxy.ToServer); s.broken(60 * time.Millisecond) }},
		{"requests cut", func(s *soak) {
			s.proxy.CutAfter(faultproxy.ToServer, 1+s.dice.Int64N(2000))
			pause(200 * time.Millisecond)
		}},
		{"replies cut", func(s *soak) {
			s.proxy.CutAfter(faultproxy.ToClient, 1+s.dice.Int64N(2000))
			pause(200 * time.Millisecond)
		}},
		{"no connections", func(s *soak) { s.proxy.Refuse(); s.broken(time.Second) }},
		{"network stalled", func(s *soak) { s.proxy.Stall(faultproxy.Both); pause(time.Second); s.proxy.Heal() }},
		{"network stalled beyond the lease", func(s *soak) { s.proxy.Stall(faultproxy.Both); pause(lease + time.Second/2); s.proxy.Heal() }},
		{"replies stalled", func(s *soak) { s.proxy.Stall(faultproxy.ToClient); pause(time.Second); s.proxy.Heal() }},
		{"network slow", func(s *soak) { s.proxy.Latency(30 * time.Millisecond); pause(time.Second); s.proxy.Heal() }},
		{"connections orphaned", func(s *soak) { s.proxy.Orphan(); pause(100 * time.Millisecond); s.proxy.ResetAll() }},
		{"consumer killed", func(s *soak) { s.replace(func(c *child) { require.NoError(s, c.Process.Kill()); _ = c.end() }) }},
		{"consumer stopped beyond its lease", func(s *soak) {
			c := s.anyConsumer()
			require.NoError(s, c.Process.Signal(syscall.SIGSTOP))
			pause(lease + time.Second/2)
			require.NoError(s, c.Process.Signal(syscall.SIGCONT))
		}},
		{"consumer restarted in order", func(s *soak) { s.replace(s.terminate) }},
	}
}

// others is all sessions of the queue.
const others = "from pg_stat_activity where datname = 'ezq' and pid <> pg_backend_pid()"

// broken lets a fault last, and then heals it and resets what has suffered it.
func (s *soak) broken(d time.Duration) {
	pause(d)
	s.proxy.Heal()
	s.proxy.ResetAll()
}

// pause lets something last.
func pause(d time.Duration) { <-time.After(d) }

func (s *soak) anyConsumer() *child { return s.consumers[s.dice.IntN(len(s.consumers))] }

// replace ends any one of the consumers and starts another one.
func (s *soak) replace(end func(*child)) {
	s.Helper()
	i := s.dice.IntN(len(s.consumers))
	end(s.consumers[i])
	s.consumers[i] = s.startChild()
}

// schedule returns an endless sequence of faults: each once, in random order, and so on.
func schedule(dice *rand.Rand) func() fault {
	var left []fault
	return func() fault {
		if len(left) == 0 {
			left = faults()
			dice.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		}
		next := left[0]
		left = left[1:]
		return next
	}
}
