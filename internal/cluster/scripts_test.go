package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// script is scripts/pgmq with programs of PostgreSQL that only write down what they are told.
type script struct {
	t   *testing.T
	bin string
	env []string
}

func newScript(t *testing.T) *script {
	t.Helper()
	s := &script{t: t, bin: public(t, "bin")}
	s.env = []string{
		"PATH=" + os.Getenv("PATH"), "EZQ_POSTGRES_BIN=" + s.bin, "EZQ_PGMQ_SQL=" + filepath.Join(s.bin, "psql"),
		"TMPDIR=" + public(t, "tmp"), "HOME=" + public(t, "home"),
	}
	for _, name := range []string{"initdb", "pg_ctl", "postgres", "psql"} {
		text := fmt.Sprintf("#!/bin/sh\necho \"%s $*; password ${PGPASSWORD:-none}\" >>%s/told\n", name, s.bin)
		s.check(os.WriteFile(filepath.Join(s.bin, name), []byte(text), 0o755))
	}
	s.check(os.WriteFile(filepath.Join(s.bin, "told"), nil, 0o600))
	s.check(os.Chmod(filepath.Join(s.bin, "told"), 0o666))
	return s
}

// public returns a directory that the server's user, and others, can reach.
func public(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ezq-scripts-"+name+".*") //nolint:usetesting // others have no way into TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (s *script) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// run runs the script and returns its output, and what the programs were told.
func (s *script) run(args ...string) (output, stderr string, err error) {
	s.t.Helper()
	ctx, stop := context.WithTimeout(s.t.Context(), time.Minute)
	defer stop()
	command := exec.CommandContext(ctx, "../../scripts/pgmq", args...)
	command.Env = s.env
	shown, err := command.CombinedOutput()
	text, failed := os.ReadFile(filepath.Join(s.bin, "told"))
	s.check(failed)
	return string(shown), string(text), err
}

func needBash(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("scripts/pgmq is a program of bash, which is not there")
	}
}

func TestScript_ShowsPasswordOnNoCommandLine(t *testing.T) {
	t.Parallel()
	needBash(t)
	s := newScript(t)
	output, stderr, err := s.run("run", "--fast", "sh", "-c", `echo "$EZQ_DATABASE_URL"`)
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	_, after, _ := strings.Cut(output, "postgres://postgres:")
	password, _, ok := strings.Cut(after, "@")
	if !ok || len(password) < 20 {
		t.Fatalf("there is no password in %s", output)
	}
	calls := 0
	for line := range strings.Lines(stderr) {
		arguments, env, _ := strings.Cut(line, "; password ")
		if strings.Contains(arguments, password) {
			t.Errorf("the password is an argument: %s", line)
		}
		if strings.HasPrefix(arguments, "psql") {
			calls++
			if strings.TrimSpace(env) != password {
				t.Errorf("psql has no password: %s", line)
			}
		}
	}
	if calls != 3 { // the database, PGMQ in it, and what tests copy
		t.Errorf("psql was called %d times: %s", calls, stderr)
	}
}

func TestScript_StartedClusterOpensWithPasswordUntilStopped(t *testing.T) {
	t.Parallel()
	needBash(t)
	s := newScript(t)
	started, _, err := s.run("start")
	if err != nil {
		t.Fatalf("%v: %s", err, started)
	}
	t.Cleanup(func() { _, _, _ = s.run("stop") })
	url, stderr, err := s.run("psql", "-c", "select 1")
	_, after, _ := strings.Cut(started, "postgres://postgres:")
	password, place, _ := strings.Cut(strings.Fields(after)[0], "@")
	if want := "psql postgres://postgres@" + place + " -c select 1; password " + password; err != nil || !strings.Contains(stderr, want) {
		t.Errorf("%v: %s\n%s", err, url, stderr)
	}
	if output, _, err := s.run("stop"); err != nil {
		t.Errorf("%v: %s", err, output)
	}
	if output, _, err := s.run("url"); err == nil {
		t.Errorf("it is still there: %s", output)
	}
}

// temporary returns where scripts/pgmq makes a cluster that is to be safe from crashes.
func temporary(s *script) string {
	if os.Geteuid() == 0 {
		return "/tmp"
	}
	return strings.TrimPrefix(s.env[3], "TMPDIR=")
}

// abandoned makes a directory as a cluster has it whose owner is gone.
func abandoned(t *testing.T, s *script, place string) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp(place, "ezq-pgmq.*") //nolint:usetesting // where the script looks
	s.check(err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s.check(os.WriteFile(filepath.Join(dir, "owner"), []byte("4194304\n"), 0o600)) // above any process id
	s.check(os.Mkdir(filepath.Join(dir, "data"), 0o700))
	return dir
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestScript_RemovesAbandonedCluster(t *testing.T) {
	t.Parallel()
	needBash(t)
	s := newScript(t)
	places := []string{temporary(s)}
	if exists("/dev/shm") {
		places = append(places, "/dev/shm")
	}
	for _, place := range places {
		dir := abandoned(t, s, place)
		output, stderr, err := s.run("run", "--fast", "true")
		if err != nil || exists(dir) { // another run may have been faster, and stopped it
			t.Errorf("%v: %s\n%s", err, output, stderr)
		}
	}
}

func TestScript_RemovesAbandonedBrokers(t *testing.T) {
	t.Parallel()
	needBash(t)
	s := newScript(t)
	for _, name := range []string{"nats-server", "rabbitmq-server", "redis-server", "pgbouncer"} {
		s.check(os.WriteFile(filepath.Join(s.bin, name), []byte("#!/bin/sh\n"), 0o755))
	}
	broker := exec.CommandContext(t.Context(), "sleep", "1000")
	s.check(broker.Start())
	removed := make(chan error, 1)
	go func() { removed <- broker.Wait() }()
	since, err := exec.CommandContext(t.Context(), "ps", "-o", "lstart=", "-p", fmt.Sprint(broker.Process.Pid)).Output()
	s.check(err)

	dir, err := os.MkdirTemp("/tmp", "ezq-brokers.") //nolint:usetesting // where the script looks
	s.check(err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	others := fmt.Sprintf("%d Thu Jan 1 00:00:00 1970\n", os.Getpid()) // the number of another process by now
	s.check(os.WriteFile(filepath.Join(dir, "servers"), fmt.Appendf(nil, "%s%d %s\n", others, broker.Process.Pid, strings.Join(strings.Fields(string(since)), " ")), 0o600))
	s.check(os.WriteFile(filepath.Join(dir, "owner"), []byte("4194304\n"), 0o600)) // above any process id

	command := exec.CommandContext(t.Context(), "../../scripts/brokers", "run", "true")
	command.Env = append(s.env, "PATH="+s.bin+":"+os.Getenv("PATH"), "EZQ_TEST_NATS=x", "EZQ_TEST_AMQP=x", "EZQ_TEST_REDIS=x")
	output, err := command.CombinedOutput()
	if err != nil || exists(dir) {
		t.Errorf("%v: %s", err, output)
	}
	if err := <-removed; err == nil || err.Error() != "signal: terminated" {
		t.Errorf("the broker ended with %v", err)
	}
}

func TestScript_FollowsNoLinkInAbandonedCluster(t *testing.T) {
	t.Parallel()
	needBash(t)
	s := newScript(t)
	dir, precious := abandoned(t, s, temporary(s)), public(t, "precious")
	s.check(os.WriteFile(filepath.Join(precious, "file"), nil, 0o600))
	s.check(os.Remove(filepath.Join(dir, "data")))
	s.check(os.Symlink(precious, filepath.Join(dir, "data")))
	output, stderr, err := s.run("run", "--fast", "true")
	if err != nil || strings.Contains(stderr, dir) || !exists(filepath.Join(precious, "file")) {
		t.Errorf("%v: %s\n%s", err, output, stderr)
	}

	linked := abandoned(t, s, temporary(s))
	s.check(os.Remove(filepath.Join(linked, "owner")))
	s.check(os.WriteFile(filepath.Join(precious, "pid"), []byte("4194304\n"), 0o600))
	s.check(os.Symlink(filepath.Join(precious, "pid"), filepath.Join(linked, "owner")))
	if output, stderr, err = s.run("run", "--fast", "true"); err != nil || strings.Contains(stderr, linked) || !exists(linked) {
		t.Errorf("%v: %s\n%s", err, output, stderr)
	}
}

func TestScript_LeavesFilesOfOtherUsers(t *testing.T) {
	t.Parallel()
	needBash(t)
	if os.Geteuid() != 0 {
		t.Skip("only root can make what belongs to another user")
	}
	s := newScript(t)
	dir, precious := abandoned(t, s, temporary(s)), public(t, "precious")
	s.check(os.WriteFile(filepath.Join(precious, "pid"), []byte("4194304\n"), 0o600))
	s.check(os.Remove(filepath.Join(dir, "owner")))
	s.check(os.Symlink(filepath.Join(precious, "pid"), filepath.Join(dir, "owner"))) // -O follows it, and it is ours
	s.check(os.Lchown(dir, 65534, 65534))
	s.check(os.Lchown(filepath.Join(dir, "data"), 65534, 65534))
	output, stderr, err := s.run("run", "--fast", "true")
	if err != nil || strings.Contains(stderr, dir) || !exists(dir) {
		t.Errorf("%v: %s\n%s", err, output, stderr)
	}
}

func TestScript_WithoutHomeOwnsItsCache(t *testing.T) {
	t.Parallel()
	needBash(t)
	s := newScript(t)
	s.env = s.env[:4] // no HOME
	cache := filepath.Join(strings.TrimPrefix(s.env[3], "TMPDIR="), fmt.Sprint("ezq-", os.Getuid()))
	if output, _, err := s.run("run", "--fast", "true"); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if info, err := os.Stat(cache); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	s.check(os.RemoveAll(cache))
	s.check(os.Symlink(public(t, "elsewhere"), cache))
	output, _, err := s.run("run", "--fast", "true")
	if err == nil || !strings.Contains(output, "set HOME or XDG_CACHE_HOME") {
		t.Errorf("a link is taken for the cache: %v: %s", err, output)
	}
}

// A neighbour who owns a directory, or may write there, can put a program in the place of one that was checked.
func TestScript_MakesNothingWhereOthersCanExchangeIt(t *testing.T) {
	t.Parallel()
	needBash(t)
	s := newScript(t)
	shared := strings.TrimPrefix(s.env[3], "TMPDIR=")
	if os.Geteuid() == 0 { // whose clusters are in /tmp, and whose cache is in TMPDIR without a HOME
		s.env = s.env[:4]
	}
	for _, refused := range []func() error{
		func() error { return os.Chmod(shared, 0o777) },
		func() error { return os.Chown(shared, 65534, 65534) },
		func() error { return os.Chmod(shared, 0o777|os.ModeSticky) },
	} {
		if err := refused(); err != nil {
			continue // only root can give a directory away
		}
		if output, told, err := s.run("run", "true"); err == nil || !strings.Contains(output, "set ") || told != "" {
			t.Errorf("%v: %s\n%s", err, output, told)
		}
	}
}

func TestScript_RunsNoProgramOfTheDirectoryThatItIsStartedIn(t *testing.T) {
	t.Parallel()
	needBash(t)
	s := newScript(t)
	bash, err := exec.LookPath("bash")
	s.check(err)
	library, err := filepath.Abs("../../scripts/lib/install.bash")
	s.check(err)
	command := exec.CommandContext(t.Context(), bash, "-c", `. "$1"; postgres_candidates`, "bash", library)
	command.Dir = s.bin
	command.Env = []string{"PATH=/usr/bin:/bin"}
	output, err := command.Output()
	s.check(err)
	for line := range strings.Lines(string(output)) {
		if !strings.HasPrefix(line, "/") {
			t.Errorf("PostgreSQL is looked for in %q", line)
		}
	}
}
