package main

import (
	"crypto/rand"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// The order of the lines differs: a broker says when a failed event comes back.
func TestHandlers_BehaveAlikeOnEachBroker(t *testing.T) {
	for broker, address := range map[string]func(*testing.T) string{
		"memory":   func(*testing.T) string { return "" },
		"pgmq":     func(t *testing.T) string { return pgtest.Database(t) },
		"nats":     func(t *testing.T) string { return service(t, "EZQ_TEST_NATS") },
		"rabbitmq": func(t *testing.T) string { return service(t, "EZQ_TEST_AMQP") },
	} {
		t.Run(broker, func(t *testing.T) {
			url := address(t)
			topic := "orders_" + strings.ToLower(rand.Text())
			output := capture(t, func() error { return run(t.Context(), broker, url, topic) })
			lines := strings.Split(strings.TrimSpace(output), "\n")
			slices.Sort(lines)
			want := []string{"charged order 1", "charged order 2", "dead letter: order 3", "the end"}
			if !slices.Equal(lines, want) {
				t.Fatalf("it printed %q, want %q", lines, want)
			}
		})
	}
}

// service returns the address of a broker that scripts/brokers has started.
func service(t *testing.T, variable string) string {
	t.Helper()
	address := os.Getenv(variable)
	switch {
	case address == "" && os.Getenv("CI") != "":
		t.Fatalf("%s is not set, and CI must not skip this: run it with scripts/brokers run", variable)
	case address == "":
		t.Skipf("%s is not set: run this with scripts/brokers run", variable)
	}
	return address
}

func capture(t *testing.T, f func() error) string {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = writer
	err = f()
	os.Stdout = stdout
	_ = writer.Close()
	if err != nil {
		t.Fatal(err)
	}
	output, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return string(output)
}
