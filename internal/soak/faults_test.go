package soak_test

import (
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/faultproxy"
)

// fault is one thing that can go wrong. It is over when do returns. A crash of the server empties
// the tables that are unlogged.
type fault struct {
	name  string
	do    func(s *soak)
	crash bool
}

func faults() []fault {
	return []fault{
		{name: "server killed", do: func(s *soak) { s.server.Kill9(); s.server.StartAgain() }, crash: true},
		{name: "server stopped immediately", do: func(s *soak) { s.server.StopImmediate(); s.server.StartAgain() }, crash: true},
		{name: "server restarted", do: func(s *soak) { s.server.StopFast(); s.server.StartAgain() }},
		{name: "one of its processes killed", do: func(s *soak) { s.server.KillOne() }, crash: true},
		{name: "half of the sessions terminated, five times", do: func(s *soak) {
			for range 5 {
				s.server.Execute("select pg_terminate_backend(pid) " + others + " and random() < 0.5")
				pause(50 * time.Millisecond)
			}
		}},
		{name: "statements cancelled, ten times", do: func(s *soak) {
			for range 10 {
				s.server.Execute("select pg_cancel_backend(pid) " + others)
				pause(20 * time.Millisecond)
			}
		}},
		{name: "connections reset, five times", do: func(s *soak) {
			for range 5 {
				s.proxy.ResetAll()
				pause(50 * time.Millisecond)
			}
		}},
		{name: "replies lost", do: func(s *soak) { s.proxy.Swallow(faultproxy.ToClient); s.broken(60 * time.Millisecond) }},
		{name: "requests lost", do: func(s *soak) { s.proxy.Swallow(faultproxy.ToServer); s.broken(60 * time.Millisecond) }},
		{name: "requests cut", do: func(s *soak) {
			s.proxy.CutAfter(faultproxy.ToServer, 1+s.rng.Int64N(2000))
			pause(200 * time.Millisecond)
		}},
		{name: "replies cut", do: func(s *soak) {
			s.proxy.CutAfter(faultproxy.ToClient, 1+s.rng.Int64N(2000))
			pause(200 * time.Millisecond)
		}},
		{name: "no connections", do: func(s *soak) { s.proxy.Refuse(); s.broken(time.Second) }},
		{name: "network stalled", do: func(s *soak) { s.proxy.Stall(faultproxy.Both); pause(time.Second); s.proxy.Heal() }},
		{name: "network stalled beyond the lease", do: func(s *soak) { s.proxy.Stall(faultproxy.Both); pause(lease + time.Second/2); s.proxy.Heal() }},
		{name: "replies stalled", do: func(s *soak) { s.proxy.Stall(faultproxy.ToClient); pause(time.Second); s.proxy.Heal() }},
		{name: "network slow", do: func(s *soak) { s.proxy.Latency(30 * time.Millisecond); pause(time.Second); s.proxy.Heal() }},
		{name: "connections orphaned", do: func(s *soak) { s.proxy.Orphan(); pause(100 * time.Millisecond); s.proxy.ResetAll() }},
		{name: "consumer killed", do: func(s *soak) { s.replace(func(c *child) { require.NoError(s, c.Process.Kill()); _ = c.end() }) }},
		{name: "consumer stopped beyond its lease", do: func(s *soak) {
			c := s.anyConsumer()
			require.NoError(s, c.Process.Signal(syscall.SIGSTOP))
			pause(lease + time.Second/2)
			require.NoError(s, c.Process.Signal(syscall.SIGCONT))
		}},
		{name: "consumer restarted in order", do: func(s *soak) { s.replace(s.terminate) }},
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

func (s *soak) anyConsumer() *child { return s.consumers[s.rng.IntN(len(s.consumers))] }

// replace ends any one of the consumers and starts another one.
func (s *soak) replace(end func(*child)) {
	s.Helper()
	i := s.rng.IntN(len(s.consumers))
	end(s.consumers[i])
	s.consumers[i] = s.startChild(s.consumers[i].far)
}

// schedule returns an endless sequence of faults: each once, in random order, and so on.
func schedule(rng *rand.Rand) func() fault {
	var left []fault
	return func() fault {
		if len(left) == 0 {
			left = faults()
			rng.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		}
		next := left[0]
		left = left[1:]
		return next
	}
}
