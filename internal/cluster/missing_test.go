package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// program replaces one of the programs by a script of sh.
func (s *script) program(name, text string) {
	s.t.Helper()
	s.check(os.WriteFile(filepath.Join(s.bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
}

// set changes the environment of the script. An empty value takes the variable away.
func (s *script) set(name, value string) {
	var env []string
	for _, entry := range s.env {
		if !strings.HasPrefix(entry, name+"=") {
			env = append(env, entry)
		}
	}
	if value != "" {
		env = append(env, name+"="+value)
	}
	s.env = env
}

// What is missing is said in one line, with an exit code that tells it from a failure.
func TestScript_NamesMissingProgramAndLeavesNothing(t *testing.T) {
	t.Parallel()
	needBash(t)
	for name, c := range map[string]struct {
		without func(s *script)
		want    string
		code    int
	}{
		"PostgreSQL is missing": {func(s *script) { s.set("EZQ_POSTGRES_BIN", "/nowhere") }, "EZQ_POSTGRES_BIN=/nowhere does not hold initdb", 3},
		"PGMQ's SQL is missing": {func(s *script) { s.set("EZQ_PGMQ_SQL", "/nowhere") }, "cannot read EZQ_PGMQ_SQL=/nowhere", 1},
		"the network is missing": {func(s *script) {
			s.set("EZQ_PGMQ_SQL", "")
			s.set("PATH", s.bin+":"+os.Getenv("PATH"))
			s.program("npm", "exit 1")
		}, "is there a network?", 3},
		"the package is another one": {func(s *script) {
			s.set("EZQ_PGMQ_SQL", "")
			s.set("PATH", s.bin+":"+os.Getenv("PATH"))
			s.program("npm", "echo something else >package.tgz")
		}, "does not have the expected checksum", 1},
		"the disk is full": {func(s *script) {
			s.program("initdb", "echo 'could not write: No space left on device'; exit 1")
		}, "No space left on device", 1},
		"the server does not start": {func(s *script) {
			s.program("pg_ctl", `while [ "$1" != -l ]; do shift; done; echo 'out of memory' >"$2"; exit 1`)
		}, "the server did not start: out of memory", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScript(t)
			c.without(s)
			output, _, err := s.run("run", "true") // not --fast: then the clusters are in TMPDIR or in /tmp
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok || exit.ExitCode() != c.code || !strings.Contains(output, c.want) {
				t.Errorf("%v: %s", err, output)
			}
			if lines := strings.Split(strings.TrimSpace(output), "\n"); !strings.Contains(lines[len(lines)-1], c.want) {
				t.Errorf("it does not end with what is missing: %s", output)
			}
			if left, _ := filepath.Glob(filepath.Join(strings.TrimPrefix(s.env[3], "TMPDIR="), "*")); len(left) > 0 {
				t.Errorf("it leaves %v", left)
			}
		})
	}
}

func TestScript_EndsItsProcessesOnSignal(t *testing.T) {
	t.Parallel()
	needBash(t)
	for _, sent := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if signal.Ignored(sent) {
			continue // the script ignores it as well, as whatever runs in the background
		}
		s := newScript(t)
		command := exec.CommandContext(t.Context(), "../../scripts/pgmq", "run", "sh", "-c", "echo $$; sleep 1000 & echo $!; wait")
		command.Env = s.env
		output, err := command.StdoutPipe()
		s.check(err)
		s.check(command.Start())
		var processes [2]int
		_, err = fmt.Fscan(output, &processes[0], &processes[1])
		s.check(err)
		s.check(command.Process.Signal(sent))
		if exit, ok := errors.AsType[*exec.ExitError](command.Wait()); !ok || exit.ExitCode() <= 128 {
			t.Errorf("%v: it ended with %v", sent, exit)
		}
		if anyAlive(processes[:]) {
			t.Errorf("%v: what it has started goes on", sent)
		}
		if _, stderr, _ := s.run("url"); !strings.Contains(stderr, "pg_ctl stop") && !strings.Contains(stderr, "pg_ctl status") {
			t.Errorf("%v: the server was not looked after: %s", sent, stderr)
		}
	}
}

func TestScript_AvoidsTakenPort(t *testing.T) {
	t.Parallel()
	needBash(t)
	s := newScript(t)
	s.program("pg_ctl", fmt.Sprintf(`echo "$*" >>%[1]s/told
if [ "$1" = start ] && [ ! -e %[1]s/told.again ]; then
	touch %[1]s/told.again
	while [ "$1" != -l ]; do shift; done
	echo 'FATAL: could not create any TCP/IP sockets' >"$2"
	exit 1
fi`, s.bin))
	s.check(os.Chmod(s.bin, 0o777)) // for told.again
	output, stderr, err := s.run("run", "sh", "-c", `echo "$EZQ_DATABASE_URL"`)
	_, port, _ := strings.Cut(output, "@127.0.0.1:")
	port, _, _ = strings.Cut(port, "/")
	if err != nil || port == "" || !strings.Contains(stderr, "-o -p "+port) || strings.Count(stderr, "-o -p ") != 2 {
		t.Errorf("%v: %s\n%s", err, output, stderr)
	}
}

func TestScript_RunsForUnprivilegedUser(t *testing.T) {
	t.Parallel()
	needBash(t)
	if _, err := exec.LookPath("setpriv"); os.Geteuid() != 0 || err != nil {
		t.Skip("only root can become another user, with setpriv")
	}
	s := newScript(t)
	for _, dir := range []string{"TMPDIR", "HOME"} {
		for _, entry := range s.env {
			if path, ok := strings.CutPrefix(entry, dir+"="); ok {
				s.check(os.Chown(path, 65534, 65534))
			}
		}
	}
	scripts := public(t, "scripts") // the repository may be where that user has no way in
	s.check(os.CopyFS(filepath.Join(scripts, "scripts"), os.DirFS("../../scripts")))
	command := exec.CommandContext(t.Context(), "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--",
		"bash", filepath.Join(scripts, "scripts/pgmq"), "run", "sh", "-c", `echo "$(id -u) $EZQ_DATABASE_URL"`)
	command.Env = s.env
	output, err := command.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(output), "65534 postgres://postgres:") {
		t.Errorf("%v: %s", err, output)
	}
}
