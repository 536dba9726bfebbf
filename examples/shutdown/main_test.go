package main

import (
	"bufio"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/ezq-go/ezq/examples/internal/exampletest"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

func TestExample_StopsOnSIGTERM(t *testing.T) {
	t.Parallel()
	t.Run("in memory", func(t *testing.T) {
		t.Parallel()
		stopsAt(t, "", syscall.SIGTERM)
	})
	t.Run("on PostgreSQL", func(t *testing.T) {
		t.Parallel()
		stopsAt(t, pgtest.Database(t), syscall.SIGTERM)
	})
}

func TestExample_StopsOnControlC(t *testing.T) {
	t.Parallel()
	stopsAt(t, "", os.Interrupt)
}

func stopsAt(t *testing.T, databaseURL string, signal os.Signal) {
	t.Helper()
	command := exampletest.Command(t, databaseURL)
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "exporting invoices\n" {
		t.Fatalf("it said %q, %v", line, err)
	}
	if err := command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	const want = "told to stop: exporting the rest of invoices next time\nstopped\n"
	if string(rest) != want {
		t.Errorf("then it said:\n%s\nwant:\n%s", rest, want)
	}
	if err := command.Wait(); err != nil {
		t.Error("it did not exit with 0:", err)
	}
}
