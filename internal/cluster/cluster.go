// Package cluster gives tests PostgreSQL servers of their own: to stop, to kill, to start again,
// and to replace by a standby.
//
// A server has its own directory and port, is removed when the test ends, and never has anything
// to do with another server. The directory is in /tmp, or in what EZQ_TEST_DIRECTORY names. Should
// the test be killed, the next scripts/pgmq removes it.
package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience bounds whatever a server is asked for.
const patience = 2 * time.Minute

// Cluster is one PostgreSQL server. Its methods fail the test if they fail. They are for one
// goroutine, the test's own.
type Cluster struct {
	tb       testing.TB
	programs programs
	dir      string // holds data/, server.log and owner
	port     int
	password string
}

// Start starts a server with PGMQ in its database ezq. Settings are lines for postgresql.conf.
//
// It keeps what is committed if it is killed, but not if the machine is.
//
// Without PostgreSQL's programs or PGMQ's SQL file (EZQ_PGMQ_SQL) the test is skipped, saying so;
// or fails if CI is set, where a skipped test would pass unnoticed.
func Start(tb testing.TB, settings ...string) *Cluster {
	tb.Helper()
	c := newCluster(tb)
	if os.Getenv("EZQ_PGMQ_SQL") == "" {
		unavailable(tb, "EZQ_PGMQ_SQL must name PGMQ's SQL file")
	}
	c.write("password", c.password)
	c.run("initdb", "-N", "-A", "scram-sha-256", "--pwfile", c.path("password"),
		"-U", "postgres", "-E", "UTF8", "--locale", "C", "-D", c.path("data"))
	c.configure(append([]string{
		"listen_addresses = '127.0.0.1'",
		"unix_socket_directories = ''",
		"fsync = off", // the system outlives the server, and with it what the server has written
		"full_page_writes = off",
		"dynamic_shared_memory_type = mmap", // goes with the directory, even if the server is killed
		"shared_buffers = 32MB",
		"wal_keep_size = 64MB",
	}, settings...)...)
	c.start()
	c.execute("postgres", "create database ezq")
	c.execute("ezq", c.read(os.Getenv("EZQ_PGMQ_SQL")))
	return c
}

func newCluster(tb testing.TB) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, programs: findPrograms(tb), port: freePort(tb), password: rand.Text()}
	var err error
	if c.dir, err = os.MkdirTemp(cmp.Or(os.Getenv("EZQ_TEST_DIRECTORY"), "/tmp"), "ezq-pgmq.*"); err != nil { //nolint:usetesting // the server's user has no way into TempDir
		tb.Fatal(err)
	}
	tb.Cleanup(c.remove)
	c.check(os.Chmod(c.dir, 0o711)) // the server's user, if it is not ours, passes through
	c.write("owner", strconv.Itoa(os.Getpid()))
	c.check(os.Mkdir(c.path("data"), 0o700))
	c.chownToServer(c.path("data"))
	return c
}

func (c *Cluster) remove() {
	if c.running() {
		_, _ = c.programs.output("pg_ctl", "stop", "-w", "-s", "-m", "immediate", "-D", c.path("data"))
	}
	c.removeSharedMemory()
	if err := os.RemoveAll(c.dir); err != nil {
		c.tb.Error(err)
	}
}

// URL returns the URL of the database ezq, for the superuser.
func (c *Cluster) URL() string { return c.url("ezq", c.Address()) }

// URLAt is URL for a server that is reached through another address, or through one of several:
// as in host:port,host:port.
func (c *Cluster) URLAt(address string) string { return c.url("ezq", address) }

// Address returns host and port.
func (c *Cluster) Address() string { return "127.0.0.1:" + strconv.Itoa(c.port) }

func (c *Cluster) url(database, address string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", c.password),
		Host: address, Path: database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// configure adds to the settings. The last one of a name counts.
func (c *Cluster) configure(settings ...string) {
	c.tb.Helper()
	file, err := os.OpenFile(c.path("data/postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	c.check(err)
	for _, line := range append(settings, fmt.Sprint("port = ", c.port)) {
		_, err := fmt.Fprintln(file, line)
		c.check(err)
	}
	c.check(file.Close())
}

// Execute runs SQL as the superuser in the database ezq, on a connection of its own: one
// statement after the other, each in its own transaction unless they begin one.
func (c *Cluster) Execute(statements ...string) {
	c.tb.Helper()
	c.execute("ezq", statements...)
}

func (c *Cluster) execute(database string, statements ...string) {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.url(database, c.Address()))
	c.check(err)
	defer func() { _ = conn.Close(ctx) }()
	for _, statement := range statements {
		if _, err := conn.PgConn().Exec(ctx, statement).ReadAll(); err != nil {
			c.tb.Fatalf("%.200s: %v", statement, err)
		}
	}
}

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *Cluster) read(path string) string {
	c.tb.Helper()
	text, err := os.ReadFile(path)
	c.check(err)
	return string(text)
}

// write leaves a file for the server's user.
func (c *Cluster) write(name, text string) {
	c.tb.Helper()
	c.check(os.WriteFile(c.path(name), []byte(text), 0o600))
	if name != "owner" {
		c.chownToServer(c.path(name))
	}
}

func (c *Cluster) check(err error) {
	c.tb.Helper()
	if err != nil {
		c.tb.Fatal(err)
	}
}

// SmallDisk mounts a disk of so many megabytes and makes it the tablespace of that name. It is
// gone when the test ends.
//
// To mount one takes rights that few have; without them the test is skipped, saying so.
func (c *Cluster) SmallDisk(tablespace string, megabytes int) {
	c.tb.Helper()
	disk := c.path(tablespace)
	c.check(os.Mkdir(disk, 0o700))
	size := fmt.Sprintf("size=%dm", megabytes)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", size, "tmpfs", disk).CombinedOutput(); err != nil {
		c.tb.Skipf("a small disk cannot be mounted, which needs root: %v: %s", err, out)
	}
	c.tb.Cleanup(func() { // before the server is stopped, which still uses it
		if out, err := exec.Command("umount", "-l", disk).CombinedOutput(); err != nil {
			c.tb.Errorf("umount: %v: %s", err, out)
		}
	})
	c.chownToServer(disk)
	c.Execute(fmt.Sprintf("create tablespace %s location '%s'", tablespace, disk))
}

// chownToServer makes path the property of the server's user.
func (c *Cluster) chownToServer(path string) {
	c.tb.Helper()
	if c.programs.server == nil {
		return
	}
	uid, err := strconv.Atoi(c.programs.server.Uid)
	c.check(err)
	gid, err := strconv.Atoi(c.programs.server.Gid)
	c.check(err)
	c.check(os.Chown(path, uid, gid))
}

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
		_, _ = c.programs.run("ipcrm", "-m", id)
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

// Standby starts a server that follows this one, and returns when it streams.
func (c *Cluster) Standby() *Cluster {
	c.tb.Helper()
	s := newCluster(c.tb)
	s.password = c.password
	s.run("pg_basebackup", "-D", s.path("data"), "-R", "-X", "stream", "-c", "fast", "-d", c.url("postgres", c.Address()))
	s.configure()
	s.start()
	c.await("select count(*) > 0 from pg_stat_replication where state = 'streaming'")
	return s
}

// Synchronous makes commits wait until a standby has them too, from now on. There must be one.
func (c *Cluster) Synchronous() {
	c.tb.Helper()
	c.Execute("alter system set synchronous_standby_names = '*'", "select pg_reload_conf()")
	c.await("select count(*) > 0 from pg_stat_replication where sync_state = 'sync'")
}

// Detach makes a standby stop following its primary. What that commits from now on is lost when
// the standby takes its place.
func (c *Cluster) Detach() {
	c.tb.Helper()
	c.Execute("alter system set primary_conninfo = ''", "select pg_reload_conf()")
	c.await("select count(*) = 0 from pg_stat_wal_receiver")
}

// Promote makes a standby a primary, and returns when it takes writes.
func (c *Cluster) Promote() {
	c.tb.Helper()
	c.run("pg_ctl", "promote", "-w", "-s", "-D", c.path("data"))
}

// await returns when the query returns true.
func (c *Cluster) await(query string) {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.URL())
	c.check(err)
	defer func() { _ = conn.Close(ctx) }()
	for done := false; !done; time.Sleep(5 * time.Millisecond) {
		if err := conn.QueryRow(ctx, query).Scan(&done); err != nil {
			c.tb.Fatalf("%s: %v", query, err)
		}
	}
}

// freePort returns a port that no process listens on. Another process may take it before the
// server does; that is rare: it lies below the ports that systems give to outgoing connections.
func freePort(tb testing.TB) int {
	tb.Helper()
	for range 100 {
		port := 20000 + mathrand.N(12000)
		listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			_ = listener.Close()
			return port
		}
	}
	tb.Fatal("no port is free")
	return 0
}

func anyAlive(pids []int) bool {
	for _, pid := range pids {
		if !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return true
		}
	}
	return false
}
