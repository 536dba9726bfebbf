package memory_test

import (
	"context"
	"testing"

	"pgregory.net/rapid"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/model"
	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/memory"
)

func TestBroker_MatchesModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		broker := memory.New(nil)
		model.Check(t, model.Subject{Publisher: broker, Store: broker.Store, EndLease: broker.EndLease})
	})
}

// The queue of a group is one like any other, whatever other groups have the same messages.
func TestBroker_MatchesModelInEachGroup(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		plain := memory.New(nil)
		group := plain.Connect(&memory.Config{Group: "g"})
		for topic, b := range map[string]*memory.Broker{"t": group, "*": plain.Connect(&memory.Config{Group: "g"}), "#": plain.Connect(&memory.Config{Group: "h"})} {
			if err := b.SubscribeInitialize(topic); err != nil {
				t.Fatal(err)
			}
		}
		of := func(topic string) *memory.Broker {
			if topic == "t" {
				return group
			}
			return plain // dead letters come to no group
		}
		model.Check(t, model.Subject{
			Publisher: plain,
			Store:     func(topic string) subscription.Store { return of(topic).Store(topic) },
			EndLease:  func(topic, uuid string) { of(topic).EndLease(topic, uuid) },
			Redrive: func(limit int) int {
				done, err := plain.Redrive(context.Background(), "t_dead", backend.DeadLetterSelection{Group: "g", Limit: limit})
				if err != nil {
					t.Fatal(err)
				}
				return done.Moved
			},
		})
	})
}
