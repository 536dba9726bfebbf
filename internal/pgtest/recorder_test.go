package pgtest_test

import (
	"runtime"
	"testing"
)

// recorder is a test that may fail or be skipped without taking the real one with it.
type recorder struct {
	testing.TB
	fatal, skipped bool
}

// run calls f on a goroutine of its own, which ends where a real test would.
func (r *recorder) run(f func(testing.TB)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
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
