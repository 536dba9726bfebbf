package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ezq-go/ezq/examples/internal/exampletest"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

func TestService_TakesPacksAndCountsOrder(t *testing.T) {
	t.Parallel()
	command := exampletest.Command(t, pgtest.Database(t))
	command.Env = append(command.Env, "EZQ_LISTEN=localhost:0")
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !ok {
		t.Fatalf("it said %q, %v", line, err)
	}

	if got := request(t, http.MethodPost, address+"/orders?item=tea"); got != "201 Created: order 1\n" {
		t.Error("POST /orders:", got)
	}
	pgtest.Eventually(t, time.Minute, "the order is packed, and /metrics says so", func() bool {
		return strings.Contains(request(t, http.MethodGet, address+"/metrics"),
			`ezq_events_total{topic="ezq",outcome="succeeded"} 1`)
	})
	if got := request(t, http.MethodGet, address+"/healthz"); got != "200 OK: ok\n" {
		t.Error("GET /healthz:", got)
	}

	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(lines); string(rest) != "stopped\n" || err != nil {
		t.Errorf("then it said %q, %v", rest, err)
	}
	if err := command.Wait(); err != nil {
		t.Error("it did not exit with 0:", err)
	}
}

func request(t *testing.T, method, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.Status + ": " + string(body)
}

func TestExample_NamesMissingDatabase(t *testing.T) {
	t.Parallel()
	exampletest.NeedsPostgreSQL(t)
}
