package processes_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience is how long a process may take to do what it must.
const patience = 60 * time.Second

// child is a service in a process of its own: this test binary, run again.
type child struct {
	*exec.Cmd
	name    string
	onLine  func(c *child, words []string)
	reading sync.WaitGroup
	errors  bytes.Buffer

	mu    sync.Mutex
	lines map[string]chan struct{} // closed when it has said that
}

// start starts a service. heard, which may be nil, is told whatever it says.
func start(t *testing.T, name string, s service, onLine func(c *child, words []string)) *child {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	settings, err := json.Marshal(s)
	require.NoError(t, err)
	c := &child{Cmd: exec.Command(self), name: name, onLine: onLine, lines: map[string]chan struct{}{}}
	c.Env = append(os.Environ(), serviceVariable+"="+string(settings))
	c.Stderr = &c.errors
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	t.Cleanup(func() { _ = c.Process.Kill() }) // it has ended, unless the test has failed
	c.reading.Go(func() {
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			c.handleLine(scanner.Text())
		}
	})
	return c
}

func (c *child) handleLine(line string) {
	if c.onLine != nil {
		c.onLine(c, strings.Fields(line))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	written := c.lineWritten(line)
	select {
	case <-written: // not for the first time
	default:
		close(written)
	}
}

func (c *child) lineWritten(line string) chan struct{} {
	if c.lines[line] == nil {
		c.lines[line] = make(chan struct{})
	}
	return c.lines[line]
}

// requireLine waits until the process has written line.
func (c *child) requireLine(t *testing.T, line string) {
	t.Helper()
	c.mu.Lock()
	written := c.lineWritten(line)
	c.mu.Unlock()
	select {
	case <-written:
	case <-time.After(patience):
		t.Fatalf("%s does not say %q", c.name, line)
	}
}

func (c *child) signal(t *testing.T, signal os.Signal) {
	t.Helper()
	require.NoError(t, c.Process.Signal(signal))
}

// end waits until the process is gone, and all that it has written was read. It returns its exit
// code, or -1 if a signal has ended it.
func (c *child) end(t *testing.T) (code int) {
	t.Helper()
	late := time.AfterFunc(patience, func() { _ = c.Process.Signal(syscall.SIGQUIT) }) // it shows where it hangs
	c.reading.Wait()
	_ = c.Wait() // the state says it all
	if !late.Stop() {
		t.Fatalf("%s does not end:\n%s", c.name, &c.errors)
	}
	return c.ProcessState.ExitCode()
}
