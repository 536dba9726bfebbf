package soak_test

import (
	"context"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/assert"
)

// busy is a process that wants a processor all the time. How much of one it gets is what the machine
// has for any one of those who want something of it: a connection costs a new process of the server
// and a login, and after a fault there are some sixty to make. It has a session of its own, as the
// server has: Linux may share the processors out among sessions, and not among processes. It ends
// after a minute on a processor, even if the test is killed.
type busy struct {
	*exec.Cmd
	begun time.Time
}

func (s *soak) occupy() *busy {
	s.Helper()
	b := &busy{Cmd: exec.Command("sh", "-c", "ulimit -t 60; while :; do :; done"), begun: time.Now()}
	b.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if !assert.NoError(s, b.Start()) {
		return nil
	}
	return b
}

// share ends the process, and returns for which part of its time it was run: 1 if there was nothing
// to wait for.
func (b *busy) share() float64 {
	if b == nil {
		return 1
	}
	took := time.Since(b.begun)
	b.end()
	return min(1, float64(b.ProcessState.UserTime()+b.ProcessState.SystemTime())/float64(took))
}

// standstill is the cause of what happens because processes had to wait.
const standstill = "the machine stood still"

func (s *soak) noteStandstill(from, till time.Time) {
	for topic := range s.ledgers {
		s.ledger(topic).Happened(standstill, from, till)
	}
}

// processors is how often it was looked how busy they are, and how often they were too busy: a consumer that gets less
// than half of a processor loses leases, as does the server that is to extend them.
type processors struct{ samples, busy int }

// watchProcessors looks every second, until end is called.
func (s *soak) watchProcessors() (end func()) {
	ctx, cancel := context.WithCancel(s.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			sample := s.occupy()
			begun := time.Now()
			pause(100 * time.Millisecond)
			if s.processors.samples++; sample.share() < 0.5 {
				s.processors.busy++
				s.noteStandstill(begun.Add(-time.Second), time.Now().Add(lease))
			}
			pause(900 * time.Millisecond)
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// tooBusy reports whether the machine had no time to do all without delay for more than a tenth of the run. Then it
// is to blame for how many messages come again.
func (p processors) tooBusy() bool { return 10*p.busy > p.samples }

func (b *busy) end() {
	if b != nil {
		_ = b.Process.Kill()
		_ = b.Wait()
	}
}
