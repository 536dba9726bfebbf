package memory_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/internal/model"
)

func TestAMemoryQueueDoesWhatTheModelDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		queue := memory.New()
		model.Check(t, model.Subject{Publisher: queue, Store: queue.Store, Expire: queue.Expire})
	})
}
