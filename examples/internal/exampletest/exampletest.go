// Package exampletest runs an example as its user does: as a process, whose output counts.
package exampletest

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// asProgram makes a test binary the program that it tests.
const asProgram = "EZQ_EXAMPLE_AS_PROGRAM"

// Main is for TestMain. It runs the tests, or program in the processes that they start.
func Main(m *testing.M, program func()) {
	if os.Getenv(asProgram) == "" {
		os.Exit(m.Run())
	}
	program()
}

// Command returns the example as a process that is yet to be started, on the database at
// databaseURL, or in memory if that is empty. It is killed when the test ends.
func Command(tb testing.TB, databaseURL string) *exec.Cmd {
	tb.Helper()
	command := exec.CommandContext(tb.Context(), os.Args[0])
	command.Env = append(os.Environ(), asProgram+"=yes", "EZQ_DATABASE_URL="+databaseURL)
	return command
}

// Everywhere checks what the example prints in memory and on PostgreSQL.
func Everywhere(t *testing.T, want string) {
	t.Helper()
	t.Run("in memory", func(t *testing.T) {
		t.Parallel()
		prints(t, "", want)
	})
	t.Run("on PostgreSQL", func(t *testing.T) {
		t.Parallel()
		OnPostgreSQL(t, want)
	})
}

// OnPostgreSQL checks what the example prints there, twice: nothing may be left of the first run.
func OnPostgreSQL(t *testing.T, want string) {
	t.Helper()
	database := pgtest.Database(t)
	prints(t, database, want)
	prints(t, database, want)
}

// NeedsPostgreSQL checks that the example says so without it, and fails.
func NeedsPostgreSQL(t *testing.T) {
	t.Helper()
	out, err := Command(t, "").CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("needs PostgreSQL")) {
		t.Errorf("without PostgreSQL: %v, and it said:\n%s", err, out)
	}
}

func prints(t *testing.T, databaseURL, want string) {
	t.Helper()
	command := Command(t, databaseURL)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%v, and it said:\n%s%s", err, out, &complaints)
	}
	if string(out) != want {
		t.Errorf("it printed:\n%s\nwant:\n%s\nits log:\n%s", out, want, &complaints)
	}
}
