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

func TestExample_ShowsTheShop(t *testing.T) {
	t.Parallel()
	command := exampletest.Command(t, "")
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
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "open ")
	if !ok {
		t.Fatalf("it said %q, %v", line, err)
	}
	for page, text := range map[string]string{
		"/": "shipping", "/dead?topic=orders_dead": "has expired", "/schedules": "stock levels", "/event?id=import-Assam": "PriceSet",
		"/queue?topic=loyalty": "the partner moves to its new API",
		"/groups":              "parcels.*", "/dead?topic=parcels.sent_dead": "invoicing",
	} {
		pgtest.Eventually(t, time.Minute, page+" shows "+text, func() bool { return strings.Contains(get(t, address+page), text) })
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

func get(t *testing.T, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
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
	return string(body)
}
