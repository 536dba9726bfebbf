package conformance_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/conformance"
)

func everyFeature() backend.Features {
	return backend.Features{
		Delay: true, Redelay: true, Attempts: true, Progress: true, DeadLetter: true,
		Ordered: true, Lease: true, Drain: true, Schedules: true, Conditions: true,
	}
}

func TestMemory_KeepsItsPromises(t *testing.T) {
	t.Parallel()
	conformance.Run(t, openMemory, memoryPromises(), conformance.VirtualTime())
}

// Each case about routers holds for one that is attached to a Watermill router, too.
func TestMemory_KeepsItsPromisesToAttachedRouters(t *testing.T) {
	t.Parallel()
	conformance.Run(t, openMemory, memoryPromises(),
		conformance.VirtualTime(), conformance.Attached(), conformance.Only(aboutRouters))
}

// memoryPromises are all but Transactions, which end with the process.
func memoryPromises() conformance.Promises {
	return conformance.Promises{Features: everyFeature(), Durable: true, Groups: true, Patterns: true, Selection: true, Pauses: true, DeadLetterStore: true, Inspection: true, GroupPauses: true}
}

func aboutRouters(c conformance.Case) bool {
	return strings.Contains(c.Theme, "router") || c.Theme == "control events"
}

func openMemory(context.Context) (*conformance.System, error) {
	broker := memory.New(nil)
	connect := func(c conformance.PeerConfig) (*conformance.Peer, error) {
		process := broker.Connect(&memory.Config{
			MaxInFlight:  c.MaxInFlight,
			MaxExtension: c.MaxExtension,
			DrainTimeout: c.DrainTimeout,
			Group:        c.Group,
			Logger:       slog.New(slog.DiscardHandler),
		})
		return &conformance.Peer{Publisher: process, Subscriber: process}, nil
	}
	return &conformance.System{Connect: connect, Lease: 30 * time.Second}, nil
}

func TestPromises_WithoutWhatTheBackendHasFail(t *testing.T) {
	t.Parallel()
	for promise, drop := range map[string]func(*conformance.Promises){
		"Delay":           func(p *conformance.Promises) { p.Delay = false },
		"Selection":       func(p *conformance.Promises) { p.Selection = false },
		"Pauses":          func(p *conformance.Promises) { p.Pauses = false },
		"DeadLetterStore": func(p *conformance.Promises) { p.DeadLetterStore = false },
		"Inspection":      func(p *conformance.Promises) { p.Inspection = false },
		"GroupPauses":     func(p *conformance.Promises) { p.GroupPauses = false },
	} {
		t.Run(promise+" is not promised of a backend that has it", func(t *testing.T) {
			t.Parallel()
			promised := memoryPromises()
			drop(&promised)
			r := conformance.RunCase(t, openMemory, promised, casesByTitle()["features/a backend says what it promises"])
			require.Equal(t, conformance.Failed, r.Outcome)
			require.Contains(t, r.Failure, "promised")
		})
	}
}
