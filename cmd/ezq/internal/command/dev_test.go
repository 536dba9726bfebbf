package command

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests of ezq dev run it in this binary, as a process that can be killed.
func TestMain(m *testing.M) {
	if os.Getenv("EZQ_TEST_RUN") == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := Run(ctx, os.Args[1:], Process{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Lookup: os.LookupEnv})
	stop()
	os.Exit(code)
}

// devDirectory is where servers are, which their user can reach.
func devDirectory(t *testing.T) string {
	t.Helper()
	pgmqFile(t)
	dir, err := os.MkdirTemp("/tmp", "ezq-test-dev.*") //nolint:usetesting // the server's user has no way into TempDir
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() {
		left, _ := filepath.Glob(dir + "/*")
		assert.Empty(t, left)
		_ = os.RemoveAll(dir)
	})
	return dir
}

func devArgs(t *testing.T, dir string, args ...string) []string {
	t.Helper()
	return append([]string{"dev", "--with", "installed", "--dir", dir, "--file", pgmqFile(t)}, args...)
}

// startDev starts a process of ezq dev, and returns the URL that it prints.
func startDev(t *testing.T, dir string) (command *exec.Cmd, address string) {
	t.Helper()
	command = exec.Command(os.Args[0], devArgs(t, dir)...)
	command.Env = append(os.Environ(), "EZQ_TEST_RUN=1")
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	address, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return command, strings.TrimSpace(address)
}

func answers(t *testing.T, address string) bool {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var queues int
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from pgmq.meta").Scan(&queues))
	return true
}

func TestDev_RunsACommandAndLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := devDirectory(t)
	script := `echo "$EZQ_DATABASE_URL"; stat -c %u "$0"/ezq-dev.*/data; cat; exit 7`
	code, out, errOut := outputOn(t, nil, "typed", devArgs(t, dir, "sh", "-c", script, dir)...)
	require.Equal(t, 7, code, "that of the command")
	require.Contains(t, errOut, "ezq: sh: exit status 7")
	lines := strings.Split(out, "\n")
	require.Regexp(t, `^postgres://postgres:.*@127\.0\.0\.1:\d+/ezq\?sslmode=disable$`, lines[0])
	require.NotEqual(t, "0", lines[1], "root runs no server")
	require.Equal(t, "typed", lines[2])
	require.False(t, answers(t, lines[0]))
}

func TestDev_ExitsAsItsCommandDoes(t *testing.T) {
	t.Parallel()
	dir := devDirectory(t)
	for command, want := range map[string]int{"exit 7": 7, "kill -9 $$": 128 + 9, "exec /nowhere/program": 127} {
		code, _, errOut := outputOn(t, nil, "", devArgs(t, dir, "sh", "-c", command)...)
		require.Equal(t, want, code, errOut)
		require.Contains(t, errOut, "ezq: sh: ")
	}
	code, _, errOut := outputOn(t, nil, "", devArgs(t, dir, "/nowhere/program")...)
	require.Equal(t, 127, code, errOut)
	require.Contains(t, errOut, "ezq: /nowhere/program: ")
}

// A service that is told to end says with its exit code whether it has ended in order. What it has started is told, too.
func TestDev_TellsItsCommandToEndAndExitsAsItDoes(t *testing.T) {
	t.Parallel()
	dir := devDirectory(t)
	told := filepath.Join(t.TempDir(), "told")
	for want, command := range map[int]string{
		7:        `trap "exit 7" TERM; echo ready; while :; do sleep 0.1; done`,
		exitDone: `trap "exit 0" TERM; (trap "echo > ` + told + `; exit" TERM; echo ready; while :; do sleep 0.1; done) & wait`,
		128 + 15: `echo ready; exec sleep 100`,
	} {
		ctx, stop := context.WithCancel(t.Context())
		out, in := io.Pipe()
		code := make(chan int, 1)
		var errOut strings.Builder
		args := devArgs(t, dir, "sh", "-c", command)
		go func() {
			code <- Run(ctx, args, Process{In: strings.NewReader(""), Out: in, Err: &errOut, Lookup: lookupIn(nil)})
			_ = in.Close()
		}()
		line, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "ready\n", line)
		stop()
		require.Equal(t, want, <-code, errOut.String())
	}
	require.FileExists(t, told)
}

// The server is needed until the last of them has ended, also if the first ends at once, as that of go run does.
func TestDev_WaitsForAllThatItsCommandHasStarted(t *testing.T) {
	t.Parallel()
	told := filepath.Join(t.TempDir(), "told")
	command := `trap "exit 3" TERM; (trap "sleep 1; echo > ` + told + `; exit" TERM; echo ready; while :; do sleep 0.1; done) & wait`
	ctx, stop := context.WithCancel(t.Context())
	out, in, err := os.Pipe() // a file, so that nothing else waits for those that write to it
	require.NoError(t, err)
	code := make(chan int, 1)
	args := devArgs(t, devDirectory(t), "sh", "-c", command)
	go func() {
		code <- Run(ctx, args, Process{In: strings.NewReader(""), Out: in, Err: io.Discard, Lookup: lookupIn(nil)})
		_ = in.Close()
	}()
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	stop()
	require.Equal(t, 3, <-code)
	require.FileExists(t, told)
}

func TestDev_ToldToEndBeforeItsCommandRanHasFailed(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	var errOut strings.Builder
	code := Run(ctx, devArgs(t, devDirectory(t), "true"), Process{In: strings.NewReader(""), Out: io.Discard, Err: &errOut, Lookup: lookupIn(nil)})
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut.String(), "ezq: true: dev was told to end before it could run")
}

func TestDev_EndsWithCtrlC(t *testing.T) {
	t.Parallel()
	command, address := startDev(t, devDirectory(t))
	require.True(t, answers(t, address))
	require.NoError(t, command.Process.Signal(os.Interrupt))
	require.NoError(t, command.Wait(), "that is no failure")
	require.False(t, answers(t, address))
}

func TestDev_RemovesWhatAKilledOneHasLeftAndNoOther(t *testing.T) {
	t.Parallel()
	dir := devDirectory(t)
	killed, left := startDev(t, dir)
	living, used := startDev(t, dir)
	require.NoError(t, killed.Process.Kill())
	_ = killed.Wait()
	require.True(t, answers(t, left), "a server outlives its process")
	code, _, errOut := outputOn(t, nil, "", devArgs(t, dir, "true")...)
	require.Zero(t, code, errOut)
	require.Contains(t, errOut, "whose process is gone")
	require.False(t, answers(t, left))
	require.True(t, answers(t, used))
	require.NoError(t, living.Process.Signal(syscall.SIGINT))
	require.NoError(t, living.Wait())
}

func TestDev_TakesAnotherPortIfThatIsTaken(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	dir := devDirectory(t)
	code, out, errOut := outputOn(t, nil, "", devArgs(t, dir, "--port", port, "sh", "-c", "echo $EZQ_DATABASE_URL")...)
	require.Zero(t, code, errOut)
	require.Contains(t, errOut, "another program has the port "+port+": another one is taken")
	u, err := url.Parse(strings.TrimSpace(out))
	require.NoError(t, err)
	require.NotEqual(t, port, u.Port())
}

func TestDev_SaysThatTheDiskIsFull(t *testing.T) {
	t.Parallel()
	dir := devDirectory(t)
	disk := filepath.Join(dir, "disk")
	require.NoError(t, os.Mkdir(disk, 0o711))
	defer func() { require.NoError(t, os.Remove(disk)) }()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=8m,mode=711", "tmpfs", disk).CombinedOutput(); err != nil {
		t.Skipf("a small disk cannot be mounted, which needs root: %v: %s", err, out)
	}
	defer func() { require.NoError(t, exec.Command("umount", "-l", disk).Run()) }()
	code, _, errOut := outputOn(t, nil, "", devArgs(t, disk, "true")...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "the disk of "+disk+" is full, and a server needs 100 MB there: free space, or name a directory on another disk with --dir")
	left, _ := filepath.Glob(disk + "/*")
	require.Empty(t, left)
}

func TestDev_SaysWhyItCannotStart(t *testing.T) {
	t.Parallel()
	dir := devDirectory(t)
	for want, variables := range map[string]map[string]string{
		"EZQ_POSTGRES_BIN=/nowhere does not hold initdb": {"EZQ_POSTGRES_BIN": "/nowhere"},
	} {
		code, _, errOut := outputOn(t, variables, "", devArgs(t, dir, "true")...)
		require.Equal(t, exitFailed, code)
		require.Contains(t, errOut, want)
	}
	code, _, errOut := outputOn(t, nil, "", "dev", "--with", "magic", "--dir", dir)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errOut, "choose installed, npm or docker")
}
