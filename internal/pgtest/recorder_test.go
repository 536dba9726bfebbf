package pgtest_test

import (
	"runtime"
	"testing"
)

// recorder is a test that may fail or be skipped without taking the real one with it. What uses
// it runs in a goroutine of its own, which ends where a real test would.
type recorder struct {
	testing.TB
	fatal, skipped bool
}

func (r *recorder) Fatal(...any) {
	r.fatal = true
	runtime.Goexit()
}

func (r *recorder) Fatalf(string, ...any) {
	r.fatal = true
	runtime.Goexit()
}

func (r *recorder) Skip(...any) {
	r.skipped = true
	runtime.Goexit()
}
