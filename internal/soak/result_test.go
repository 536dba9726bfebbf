package soak_test

import (
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
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
		DuplicateShare  float64        `json:"duplicate_share"`
		AtLeastOnce     ledger.Report  `json:"at_least_once"`
		ExactlyOnce     effects        `json:"exactly_once"`
	} `json:"faults"`

	Restarts struct {
		Restarts    int           `json:"restarts"`
		AtLeastOnce ledger.Report `json:"at_least_once"`
		InTx        ledger.Report `json:"in_tx"`
	} `json:"graceful_restarts"`

	Left struct {
		Goroutines  int `json:"goroutines"`
		Connections int `json:"connections"`
	} `json:"left"`

	Schedule []happening `json:"schedule"`
}

// happening is one fault of the schedule. Times are in seconds.
type happening struct {
	Fault    string  `json:"fault"`
	At       float64 `json:"at_s"`
	Lasted   float64 `json:"lasted_s"`
	Recovery float64 `json:"recovery_s"`
	Late     float64 `json:"machine_late_s"` // by how much the machine kept everybody waiting

	recovery, late time.Duration
}

func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

// effects is what handlers have done in transactions that ack their events.
type effects struct {
	Events     ledger.Report `json:"events"`
	Effects    int           `json:"effects"`
	Lost       []string      `json:"lost"`       // events that were stored, and had no effect
	Unexpected []string      `json:"unexpected"` // effects of events that were never stored
	Repeated   []string      `json:"repeated"`   // events that had more than one effect
}

// effects compares the effects with what was published.
func (s *soak) effects(pool *pgxpool.Pool) effects {
	s.Helper()
	rows, err := pool.Query(s.Context(), "select id, count(*)::int from effects group by id order by id")
	require.NoError(s, err)
	account := ledger.New()
	e := effects{Lost: []string{}, Repeated: []string{}}
	var id string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error {
		e.Effects += n
		if n > 1 {
			e.Repeated = append(e.Repeated, id)
		}
		account.Delivered(id, "")
		return nil
	})
	require.NoError(s, err)
	s.ledger(inTx).CopyOutcomes(account)
	report := account.Report()
	e.Lost, e.Unexpected = report.Lost, report.Unexpected
	e.Events = s.ledger(inTx).Report()
	return e
}

// judge fails the test unless the result is what it must be.
func (s *soak) judge() {
	s.Helper()
	r := &s.result
	s.Logf("%d faults in %s: %v", r.Faults.Count, r.Took, r.Faults.AtLeastOnce)
	s.Logf("in transactions: %v; %d effects", r.Faults.ExactlyOnce.Events, r.Faults.ExactlyOnce.Effects)
	s.Logf("%d restarts: %v", r.Restarts.Restarts, r.Restarts.AtLeastOnce)
	s.Logf("longest recovery %v s, share of duplicates %.4f %%", r.Faults.LongestRecovery, 100*r.Faults.DuplicateShare)

	for _, report := range []ledger.Report{r.Faults.AtLeastOnce, r.Faults.ExactlyOnce.Events, r.Restarts.AtLeastOnce, r.Restarts.InTx} {
		if wrong := report.Wrong(); wrong != "" {
			s.Error(wrong)
		}
	}
	for what, ids := range map[string][]string{
		"lost": r.Faults.ExactlyOnce.Lost, "unexpected": r.Faults.ExactlyOnce.Unexpected, "repeated": r.Faults.ExactlyOnce.Repeated,
	} {
		if len(ids) > 0 {
			s.Errorf("effects %s: %v", what, ids)
		}
	}
	if r.Faults.DuplicateShare > maxShare {
		s.Errorf("%d of %d were delivered again", r.Faults.AtLeastOnce.Duplicates, r.Faults.AtLeastOnce.Delivered)
	}
	if n := r.Restarts.AtLeastOnce.Duplicates + r.Restarts.InTx.Duplicates; n > 0 {
		s.Errorf("%d duplicates by restarts in order", n)
	}
	if r.Left.Connections+r.Left.Goroutines > 0 {
		s.Errorf("left: %+v", r.Left)
	}
	for _, h := range r.Schedule {
		if h.recovery > maxRecovery+h.late {
			s.Errorf("recovery took too long: %+v", h)
		}
	}
	s.judgeLoad()
}

// judgeLoad fails the test if there was too little to learn from.
func (s *soak) judgeLoad() {
	s.Helper()
	stored := s.result.Faults.AtLeastOnce.Stored + s.result.Faults.ExactlyOnce.Events.Stored
	if *duration >= soakIsSerious && (s.result.Faults.Count < minFaults || stored < minStored) {
		s.Errorf("%d faults and %d messages are too few: the machine is too slow, or D is", s.result.Faults.Count, stored)
	}
}

// sumUp computes what follows from the rest.
func (r *result) sumUp() {
	r.Faults.Count, r.Faults.ByKind = len(r.Schedule), map[string]int{}
	for _, h := range r.Schedule {
		r.Faults.ByKind[h.Fault]++
		r.Faults.LongestRecovery = max(r.Faults.LongestRecovery, h.Recovery)
	}
	if n := r.Faults.AtLeastOnce.Delivered; n > 0 {
		r.Faults.DuplicateShare = float64(r.Faults.AtLeastOnce.Duplicates) / float64(n)
	}
}
