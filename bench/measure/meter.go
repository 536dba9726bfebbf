// Package measure tells what work has cost: time, CPU of the client and of the server, memory
// allocations and write-ahead log.
package measure

import (
	"context"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Cost is what has been used up since a moment.
type Cost struct {
	Elapsed time.Duration
	Client  time.Duration // CPU of this process
	Server  time.Duration // CPU of all processes of PostgreSQL; 0 if it runs elsewhere
	Allocs  uint64        // of this process
	WAL     int64         // bytes
}

// A Meter measures this process and one PostgreSQL server. It keeps a connection of its own, so
// that reading it does not wait for the work.
type Meter struct {
	pool       *pgxpool.Pool
	postmaster int
}

// NewMeter returns a meter of the server that pool is connected to. The pool is the meter's own.
func NewMeter(ctx context.Context, pool *pgxpool.Pool) (*Meter, error) {
	var backend int
	if err := pool.QueryRow(ctx, "select pg_backend_pid()").Scan(&backend); err != nil {
		return nil, fmt.Errorf("measure: ask the server for its process: %w", err)
	}
	return &Meter{pool: pool, postmaster: parentOf(backend)}, nil
}

// A Reading is where all counters stand at a moment.
type Reading struct {
	at     time.Time
	client time.Duration
	server time.Duration
	allocs uint64
	wal    int64
}

// Read reads all counters. It stops the world for some microseconds, so it is for the beginning
// and the end of what is measured.
func (m *Meter) Read(ctx context.Context) (Reading, error) {
	var r Reading
	err := m.pool.QueryRow(ctx, "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint").Scan(&r.wal)
	if err != nil {
		return r, fmt.Errorf("measure: read the position in the write-ahead log: %w", err)
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	r.allocs = memory.Mallocs
	r.server = serverCPU(m.postmaster)
	r.client = clientCPU()
	r.at = time.Now()
	return r, nil
}

// Since returns what has been used up from before until now.
func (m *Meter) Since(ctx context.Context, before Reading) (Cost, error) {
	elapsed := time.Since(before.at)
	now, err := m.Read(ctx)
	return Cost{
		Elapsed: elapsed,
		Client:  now.client - before.client,
		Server:  now.server - before.server,
		Allocs:  now.allocs - before.allocs,
		WAL:     now.wal - before.wal,
	}, err
}

func clientCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
