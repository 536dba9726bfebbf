package soak_test

import (
	"os/exec"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
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
	require.NoError(s, b.Start())
	return b
}

// share ends the process, and returns for which part of its time it was run: 1 if there was nothing
// to wait for.
func (b *busy) share() float64 {
	took := time.Since(b.begun)
	b.end()
	return min(1, float64(b.ProcessState.UserTime()+b.ProcessState.SystemTime())/float64(took))
}

func (b *busy) end() {
	_ = b.Process.Kill()
	_ = b.Wait()
}
