// Package open opens the backend that an example runs on.
package open

import (
	"context"
	"errors"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// ErrNeedsPostgreSQL is what an example ends with that shows what only PostgreSQL
// can do, if it is not told where that is.
var ErrNeedsPostgreSQL = errors.New("this example needs PostgreSQL with PGMQ: " +
	"set EZQ_DATABASE_URL, for example to what `scripts/pgmq start` prints")

// Backend opens a client of the database at url, or a broker in memory if url is empty.
func Backend(ctx context.Context, url string) (backend.Backend, error) {
	if url == "" {
		return memory.New(nil), nil
	}
	return pgmq.Open(ctx, url, nil)
}
