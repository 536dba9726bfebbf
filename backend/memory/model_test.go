package memory_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/ezq-go/ezq/backend/internal/model"
	"github.com/ezq-go/ezq/backend/memory"
)

func TestBroker_MatchesModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		broker := memory.New(nil)
		model.Check(t, model.Subject{Publisher: broker, Store: broker.Store, EndLease: broker.EndLease})
	})
}
