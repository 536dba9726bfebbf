package schedule_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/schedule"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// childVariable makes the test binary a process that runs a timetable until it is killed. Its
// value is the URL of the database.
const childVariable = "EZQ_TEST_SCHEDULE_CHILD"

const period = 50 * time.Millisecond

func TestMain(m *testing.M) {
	database := os.Getenv(childVariable)
	if database == "" {
		os.Exit(m.Run())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // should the test not kill it
	defer cancel()
	if err := runTimetable(ctx, database); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// runTimetable runs a timetable that makes up for all that was missed.
func runTimetable(ctx context.Context, database string) error {
	client, err := pgmq.Open(ctx, database, nil)
	if err != nil {
		return err
	}
	timetable, err := schedule.New(client, &schedule.Config{CatchUp: 10_000})
	if err == nil {
		err = timetable.Add("report", schedule.Every(period), Report{})
	}
	if err != nil {
		return err
	}
	return timetable.Run(ctx)
}

func startChild(t *testing.T, database string) *exec.Cmd {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+database)
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	return child
}

func TestTimetable_KilledProcessesNeitherLoseNorRepeatTicks(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client, err := pgmq.Open(t.Context(), database, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	received := make(chan time.Time, 100_000)
	router := ezq.NewRouter(client, nil)
	ezq.Handle(router, func(ctx context.Context, _ Report) error {
		tick, _ := schedule.TickFromContext(ctx)
		received <- tick.At
		return nil
	}, ezq.Use(client.TxMiddleware())) // or an event could be handled twice
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- router.Run(ctx) }()

	var children []*exec.Cmd
	for range 3 {
		children = append(children, startChild(t, database))
	}
	seen := map[time.Time]int{}
	var first, last time.Time
	const rounds, each = 4, 15 // in each round all processes are killed and started anew
	timeout := time.After(2 * time.Minute)
	for round := range rounds {
		for range each {
			select {
			case at := <-received:
				seen[at]++
				if first.IsZero() || at.Before(first) {
					first = at
				}
				if at.After(last) {
					last = at
				}
			case <-timeout:
				t.Fatalf("after %d ticks nothing more came in time", len(seen))
			}
		}
		for i, child := range children {
			_ = child.Process.Kill()
			_ = child.Wait()
			if round < rounds-1 {
				children[i] = startChild(t, database)
			}
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for close(received); ; {
		at, ok := <-received
		if !ok {
			break
		}
		seen[at]++
		if at.After(last) {
			last = at
		}
	}
	unhandled, err := client.Metrics(t.Context(), ezq.DefaultTopic)
	if err != nil {
		t.Fatal(err)
	}
	missing := 0
	for at := first; !at.After(last); at = at.Add(period) {
		switch seen[at] {
		case 0:
			missing++
		case 1:
		default:
			t.Errorf("%v was published %d times", at, seen[at])
		}
	}
	if missing > unhandled.Visible+unhandled.Invisible {
		t.Errorf("of the ticks from %v to %v %d are missing, and %d wait in the queue", first, last, missing, unhandled.Visible+unhandled.Invisible)
	}
	t.Logf("%d ticks of %v, each published once by one of %d processes that were killed %d times", len(seen), period, len(children), rounds)
}
