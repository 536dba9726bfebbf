package insert

import (
	"fmt"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

// batchSize is how much a statement carries: messages, and the bytes of their payloads and headers.
type batchSize struct{ messages, bytes int }

func (s batchSize) plus(other batchSize) batchSize {
	return batchSize{s.messages + other.messages, s.bytes + other.bytes}
}

func (s batchSize) minus(other batchSize) batchSize {
	return batchSize{s.messages - other.messages, s.bytes - other.bytes}
}

// The most that one statement carries for several calls. One that is larger keeps the other cores
// of the server idle: without a bound, 32 goroutines that publish 20 KiB each needed 1.9 times as
// long as INSERTs of their own; with 32 KiB 1.5, with 64 KiB 1.1, with 256 KiB 1.3
// (BenchmarkPublish).
const (
	maxSharedMessages = 1000
	maxSharedBytes    = 64 << 10
)

// fitsShared reports whether a statement may carry that much for several calls.
func (s batchSize) fitsShared() bool {
	return s.messages <= maxSharedMessages && s.bytes <= maxSharedBytes
}

// MaxStatement is how many bytes PostgreSQL takes of the parameters of a statement
// (PQ_LARGE_MESSAGE_LIMIT in its libpq.h). A message takes more of them than its payload and its
// headers: four lengths, two versions of jsonb, its delay and its time.
const (
	MaxStatement      = 1<<30 - 2
	parameterOverhead = 4*4 + 2 + 8 + 8
	statementOverhead = 4096 // the arrays themselves, and room
)

// check returns an error if no statement can carry that much.
func (s batchSize) check() error {
	if s.bytes+s.messages*parameterOverhead+statementOverhead <= MaxStatement {
		return nil
	}
	return &fault.Error{
		Kind:   fault.ErrTooLarge,
		Cause:  fmt.Errorf("%d messages have %d bytes together, and PostgreSQL takes 1 GiB at a time", s.messages, s.bytes),
		Remedy: "publish them in several calls, each of which stores all of its messages or none",
	}
}
