package cluster

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// StopFast stops the server in order: sessions are ended, and their transactions rolled back.
func (c *Cluster) StopFast() {
	c.tb.Helper()
	c.stop("fast")
}

// StopImmediate stops the server without a checkpoint. It recovers when it starts again.
func (c *Cluster) StopImmediate() {
	c.tb.Helper()
	c.stop("immediate")
}

func (c *Cluster) stop(mode string) {
	c.tb.Helper()
	c.run("pg_ctl", "stop", "-w", "-s", "-m", mode, "-D", c.path("data"))
}

// Kill9 kills the server and all of its processes with SIGKILL, and returns when they are gone.
func (c *Cluster) Kill9() {
	c.tb.Helper()
	first, _, _ := strings.Cut(c.read(c.path("data/postmaster.pid")), "\n")
	postmaster, err := strconv.Atoi(first)
	c.check(err)
	c.check(syscall.Kill(postmaster, syscall.SIGSTOP)) // so that it starts no more
	pids := append(c.programs.children(postmaster), postmaster)
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may just have ended
	}
	for deadline := time.Now().Add(patience); anyAlive(pids); {
		if time.Now().After(deadline) {
			c.tb.Fatal("processes of the server survive SIGKILL: ", pids)
		}
		time.Sleep(time.Millisecond)
	}
}

// KillOne kills one of the processes that serve clients, as the kernel does that is out of memory.
// The server then ends all others and recovers; KillOne returns when it has.
func (c *Cluster) KillOne() {
	c.tb.Helper()
	before, victim, err := c.incarnation()
	c.check(err)
	c.check(syscall.Kill(victim, syscall.SIGKILL))
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if now, _, err := c.incarnation(); err == nil && now != before {
			return
		}
		if time.Now().After(deadline) {
			c.tb.Fatal("the server does not recover from the death of one process")
		}
	}
}

// incarnation returns when the server has last recovered, and the process that serves some client.
func (c *Cluster) incarnation() (since string, pid int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.URL())
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	err = conn.QueryRow(ctx, `select (select backend_start::text from pg_stat_activity where backend_type = 'checkpointer'),
		(select min(pid) from pg_stat_activity where backend_type = 'client backend')`).Scan(&since, &pid)
	return since, pid, err
}

func anyAlive(pids []int) bool {
	for _, pid := range pids {
		if !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return true
		}
	}
	return false
}

// StartAgain starts the server after it was stopped or killed, and returns when it has recovered.
func (c *Cluster) StartAgain() {
	c.tb.Helper()
	c.start()
}

func (c *Cluster) start() {
	c.tb.Helper()
	out, err := c.programs.output("pg_ctl", "start", "-w", "-t", "60", "-s", "-D", c.path("data"), "-l", c.path("data/server.log"))
	if err != nil {
		log, _ := os.ReadFile(c.path("data/server.log"))
		c.tb.Fatalf("the server did not start: %v\n%s\n%s", err, out, log)
	}
}

// RestartCommand returns a command that stops the server, in the mode fast or immediate, and
// starts it again.
func (c *Cluster) RestartCommand(mode string) []string {
	return c.programs.command("pg_ctl", "restart", "-w", "-s", "-m", mode, "-D", c.path("data"), "-l", c.path("data/server.log"))
}

// Logged returns the lines of the server's log that contain text, each with so many of the lines that
// follow it.
func (c *Cluster) Logged(text string, following int) (found []string) {
	c.tb.Helper()
	lines := strings.Split(c.read(c.path("data/server.log")), "\n")
	for i, line := range lines {
		if strings.Contains(line, text) {
			found = append(found, strings.Join(lines[i:min(len(lines), i+1+following)], "\n"))
		}
	}
	return found
}

// removeSharedMemory removes the segment of shared memory by which a server that was killed would
// have known its like. A system has room for some thousands of them.
func (c *Cluster) removeSharedMemory() {
	if id := c.sharedMemory(); id != "" {
		_, _ = c.programs.as("ipcrm", "-m", id)
	}
}

// sharedMemory returns the number of that segment, which a server that stops takes away together
// with its file: the seventh line has the key and the number.
func (c *Cluster) sharedMemory() (id string) {
	text, err := os.ReadFile(c.path("data/postmaster.pid"))
	if lines := strings.Split(string(text), "\n"); err == nil && len(lines) > 6 {
		if words := strings.Fields(lines[6]); len(words) == 2 {
			id = words[1]
		}
	}
	return id
}

func (c *Cluster) running() bool {
	_, err := c.programs.output("pg_ctl", "status", "-D", c.path("data"))
	return err == nil
}

func (c *Cluster) run(program string, args ...string) {
	c.tb.Helper()
	if out, err := c.programs.output(program, args...); err != nil {
		c.tb.Fatalf("%s: %v\n%s", program, err, out)
	}
}
