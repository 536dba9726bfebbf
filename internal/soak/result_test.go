package soak_test

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/ledger"
)

// result is what a run has found. It is written as JSON.
type result struct {
	Seed     uint64 `json:"seed"`
	Duration string `json:"duration"` // asked for
	Took     string `json:"took"`     // the part with faults
	Go       string `json:"go"`
	CPUs     int    `json:"cpus"`

	Faults struct {
		Count           int            `json:"count"`
		ByKind          map[string]int `json:"by_kind"`
		LongestRecovery float64        `json:"longest_recovery_s"` // from the end of a fault to the next delivery
		DuplicateShare  float64        `json:"duplicate_share"`    // of the messages of plain
		deliveryReport
	} `json:"faults"` // with the storm beside them

	Storm struct {
		Counts          map[string]*tally `json:"counts"` // also of those beside the faults
		LongestRecovery float64           `json:"longest_recovery_s"`
		Deadlocks       int               `json:"deadlocks"` // in the whole run
		Acts            []incident        `json:"acts"`
		deliveryReport
	} `json:"storm"` // alone

	Restarts struct {
		Restarts int `json:"restarts"`
		deliveryReport
	} `json:"graceful_restarts"`

	Left struct {
		Goroutines  int `json:"goroutines"`
		Connections int `json:"connections"`
	} `json:"left"`

	Schedule []incident `json:"schedule"`
}

// incident is one fault of the schedule, or one act of the storm alone. Times are in seconds.
type incident struct {
	What     string  `json:"what"`
	Beside   string  `json:"beside,omitempty"` // the act of the storm that was under way at its end
	At       float64 `json:"at_s"`
	Lasted   float64 `json:"lasted_s"`
	Recovery float64 `json:"recovery_s"`
	Late     float64 `json:"machine_late_s"` // by how much the machine kept all processes waiting

	recovery, late time.Duration
}

// allowed returns how long the recovery may take. Of a machine that is late by so much it is not known exactly.
func (i incident) allowed() time.Duration { return maxRecovery + i.late + i.late/4 }

// deliveryReport is what became of all messages of a phase.
type deliveryReport struct {
	AtLeastOnce map[string]ledger.Report `json:"at_least_once"` // by topic
	Effects     effects                  `json:"exactly_once"`  // of in_tx
	Letters     effects                  `json:"letters"`       // of failing
}

func (s *soak) reportDeliveries() (a deliveryReport) {
	s.Helper()
	a.AtLeastOnce = map[string]ledger.Report{}
	for topic := range s.ledgers {
		a.AtLeastOnce[topic] = s.ledger(topic).Report()
	}
	a.Effects = s.effects("select id, count(*)::int from effects group by id order by id", inTx, func(string) bool { return true })
	a.Letters = s.effects("select message->>'ID', count(*)::int from pgmq.q_"+deadLetters+" group by 1 order by 1", failing, isDeadLetter)
	return a
}

func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

// effects is what is in the database because of events: what handlers have done in transactions that
// ack their events, or dead letters.
type effects struct {
	Count      int      `json:"count"`
	Lost       []string `json:"lost"`       // events that were stored, and had no effect
	Unexpected []string `json:"unexpected"` // effects of events that were never stored
	Repeated   []string `json:"repeated"`   // events that had more than one effect
}

// effects compares what a query says, of each event how many effects it had, with what was
// published to a topic. Only events that concerns is true of have effects.
func (s *soak) effects(query, topic string, concerns func(id string) bool) effects {
	s.Helper()
	rows, err := s.pool.Query(s.Context(), query)
	require.NoError(s, err)
	ledgerCopy := ledger.New()
	e := effects{Repeated: []string{}}
	var id string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error {
		e.Count += n
		if n > 1 {
			e.Repeated = append(e.Repeated, id)
		}
		ledgerCopy.Delivered(id, "")
		return nil
	})
	require.NoError(s, err)
	s.ledger(topic).CopyOutcomes(ledgerCopy, concerns)
	report := ledgerCopy.Report()
	e.Lost, e.Unexpected = report.Lost, report.Unexpected
	return e
}

// verify fails the test unless the result is what it must be.
func (s *soak) verify() {
	s.Helper()
	r := &s.result
	for what, phase := range map[string]deliveryReport{"faults": r.Faults.deliveryReport, "storm": r.Storm.deliveryReport, "restarts": r.Restarts.deliveryReport} {
		s.verifyDeliveries(what, phase)
	}
	s.Logf("the machine was too busy in %d of %d seconds", s.processors.busy, s.processors.samples)
	s.Logf("%d faults in %s: longest recovery %v s, share of duplicates %.4f %%", r.Faults.Count, r.Took, r.Faults.LongestRecovery, 100*r.Faults.DuplicateShare)
	s.Logf("storm: longest recovery %v s, %d deadlocks; acts:", r.Storm.LongestRecovery, r.Storm.Deadlocks)
	for _, name := range slices.Sorted(maps.Keys(r.Storm.Counts)) {
		s.Logf("  %s: %+v", name, *r.Storm.Counts[name])
	}
	for cause, n := range r.Faults.AtLeastOnce[plain].Causes {
		most := maxOfOneFault
		if strings.HasPrefix(cause, "consumer ") {
			most = maxOfConsumer
		}
		if times := max(r.Faults.ByKind[cause], 1); n > most*times && !s.processors.tooBusy() {
			s.Errorf("%d messages were delivered again because of %d times: %s", n, times, cause)
		}
	}
	for topic, report := range r.Restarts.AtLeastOnce {
		if n := report.Duplicates - report.Causes[string(ledger.Nacked)] - report.Causes[standstill]; n > 0 {
			s.Errorf("%s: %d duplicates by restarts in order", topic, n)
		}
	}
	if r.Left.Connections+r.Left.Goroutines > 0 {
		s.Errorf("left: %+v", r.Left)
	}
	for _, h := range r.Schedule {
		if h.recovery > h.allowed() {
			s.Errorf("recovery took too long: %+v", h)
		}
	}
	s.verifyStorm()
	s.verifyLoad()
}

// verifyDeliveries fails the test if something was lost, or came for no reason.
func (s *soak) verifyDeliveries(phase string, a deliveryReport) {
	s.Helper()
	for _, topic := range slices.Sorted(maps.Keys(a.AtLeastOnce)) {
		report := a.AtLeastOnce[topic]
		s.Logf("%s: %s: %v", phase, topic, report)
		if wrong := report.Wrong(); wrong != "" {
			s.Errorf("%s: %s: %s", phase, topic, wrong)
		}
		if removed := topic == purged || slices.Contains(loose(), topic); report.Removed > 0 && !removed {
			s.Errorf("%s: %s: messages were removed, and no part of the soak does that", phase, topic)
		}
	}
	for what, e := range map[string]effects{"effects": a.Effects, "dead letters": a.Letters} {
		s.Logf("%s: %d %s", phase, e.Count, what)
		for how, ids := range map[string][]string{"lost": e.Lost, "unexpected": e.Unexpected, "repeated": e.Repeated} {
			if len(ids) > 0 {
				s.Errorf("%s: %d %s %s: %.500v", phase, len(ids), what, how, ids)
			}
		}
	}
}

// verifyStorm fails the test unless each kind of act was there, and kept nothing up.
func (s *soak) verifyStorm() {
	s.Helper()
	for name, count := range s.result.Storm.Counts {
		if count.Done == 0 {
			s.Errorf("%s: it never happened", name)
		}
	}
	for _, h := range s.result.Storm.Acts {
		if h.recovery > h.allowed() {
			s.Errorf("recovery took too long: %+v", h)
		}
	}
	if n := s.result.Storm.Deadlocks; n > 0 {
		s.Errorf("%d deadlocks:\n%s", n, s.server.Logged("deadlock detected", 12))
	}
}

// verifyLoad fails the test if there was too little to learn from.
func (s *soak) verifyLoad() {
	s.Helper()
	stored := s.result.Faults.AtLeastOnce[plain].Stored + s.result.Faults.AtLeastOnce[inTx].Stored
	if *duration >= soakIsSerious && (s.result.Faults.Count < minFaults || stored < minStored) {
		s.Errorf("%d faults and %d messages are too few: the machine is too slow, or D is", s.result.Faults.Count, stored)
	}
}

// sumUp computes what follows from the rest.
func (r *result) sumUp(s *soak) {
	r.Faults.Count, r.Faults.ByKind = len(r.Schedule), map[string]int{}
	for _, h := range r.Schedule {
		r.Faults.ByKind[h.What]++
		r.Faults.LongestRecovery = max(r.Faults.LongestRecovery, h.Recovery)
	}
	if of := r.Faults.AtLeastOnce[plain]; of.Delivered > 0 {
		r.Faults.DuplicateShare = float64(of.Duplicates) / float64(of.Delivered)
	}
	r.Storm.Counts, r.Storm.Deadlocks = s.storm.counts, len(s.server.Logged("deadlock detected", 0))
	for _, h := range r.Storm.Acts {
		r.Storm.LongestRecovery = max(r.Storm.LongestRecovery, h.Recovery)
	}
}
