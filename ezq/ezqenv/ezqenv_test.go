package ezqenv_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/ezqenv"
)

// environment is variables as os.LookupEnv has them.
type environment map[string]string

func (e environment) lookup(variable string) (string, bool) {
	value, ok := e[variable]
	return value, ok
}

func read(t *testing.T, e environment) ezqenv.Settings {
	t.Helper()
	settings, err := ezqenv.Read(e.lookup)
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

func TestRead_WithoutVariablesReturnsDefaults(t *testing.T) {
	t.Parallel()
	for _, e := range []environment{nil, {"EZQ_CONCURRENCY": "", "EZQ_LEASE": " ", "EZQ_DATABASE_URL": ""}} {
		if got, want := read(t, e), (ezqenv.Settings{Topic: "ezq"}); got != want {
			t.Errorf("%v is not %v", got, want)
		}
	}
}

func TestRead_IgnoresValueOfUnsetVariable(t *testing.T) {
	t.Parallel()
	settings, err := ezqenv.Read(func(string) (string, bool) { return "12", false })
	if err != nil || settings != (ezqenv.Settings{Topic: "ezq"}) {
		t.Errorf("%v, with %v", err, settings)
	}
}

func TestRead_ReadsEveryVariable(t *testing.T) {
	t.Parallel()
	got := read(t, environment{
		"EZQ_DATABASE_URL": "postgres://app:secret@db:5433/shop?sslmode=disable", "EZQ_TOPIC": "orders", "EZQ_GROUP": "mail",
		"EZQ_CONCURRENCY": "20", "EZQ_CONNECTIONS": "3", "EZQ_HANDLER_TIMEOUT": "1m30s", "EZQ_DRAIN_TIMEOUT": "20",
		"EZQ_POLL_INTERVAL": "250ms", "EZQ_LEASE": "45s", "EZQ_LOG_LEVEL": "debug",
	})
	want := ezqenv.Settings{
		DatabaseURL: got.DatabaseURL, Topic: "orders", Group: "mail",
		Concurrency: 20, MaxConns: 3, HandlerTimeout: 90 * time.Second, DrainTimeout: 20 * time.Second,
		PollInterval: 250 * time.Millisecond, Lease: 45 * time.Second, LogLevel: slog.LevelDebug,
	}
	if got != want {
		t.Errorf("%v is not %v", got, want)
	}
	if url := got.DatabaseURL.Reveal(); url != "postgres://app:secret@db:5433/shop?sslmode=disable" {
		t.Errorf("the database is %s", url)
	}
	router, queue := got.Router(), got.PGMQ()
	if router.Concurrency != 20 || router.DrainTimeout != 20*time.Second {
		t.Errorf("the router has %+v", router)
	}
	if want := (pgmq.SubscriberConfig{
		Group: "mail", Lease: 45 * time.Second, PollInterval: 250 * time.Millisecond, MaxConns: 3, DrainTimeout: 20 * time.Second,
	}); queue.Subscriber != want {
		t.Errorf("the queue has %+v", queue.Subscriber)
	}
}

func TestRead_AcceptsVariablesOfPythonLibrary(t *testing.T) {
	t.Parallel()
	got := read(t, environment{
		"EZQ_QUEUE_HOST": "db", "EZQ_QUEUE_PORT": "5433", "EZQ_QUEUE_USERNAME": "app", "EZQ_QUEUE_PASSWORD": "s:e/c@r?et",
		"EZQ_QUEUE_DATABASE": "shop", "EZQ_DEFAULT_QUEUE_NAME": "orders", "EZQ_CONSUMER_POLL_INTERVAL": "0.5",
		"EZQ_CONSUMER_CONCURRENT_HANDLERS": "5", "EZQ_CONSUMER_TIMEOUT": "30", "EZQ_CONSUMER_SHUTDOWN_GRACE_PERIOD": "5",
		"EZQ_CONSUMER_BATCH_SIZE": "100", "EZQ_LOG_LEVEL": "WARNING",
	})
	want := ezqenv.Settings{
		DatabaseURL: got.DatabaseURL, Topic: "orders", Concurrency: 5,
		HandlerTimeout: 30 * time.Second, DrainTimeout: 5 * time.Second, PollInterval: 500 * time.Millisecond, LogLevel: slog.LevelWarn,
	}
	if got != want {
		t.Errorf("%v is not %v", got, want)
	}
	if url := got.DatabaseURL.Reveal(); url != "postgres://app:s%3Ae%2Fc%40r%3Fet@db:5433/shop" {
		t.Errorf("the database is %s", url)
	}
	some := read(t, environment{"EZQ_QUEUE_HOST": "::1"})
	if url := some.DatabaseURL.Reveal(); url != "postgres://postgres:postgres@[::1]:5432/postgres" {
		t.Errorf("with Python's defaults it is %s", url)
	}
	both := read(t, environment{"EZQ_TOPIC": "a", "EZQ_DEFAULT_QUEUE_NAME": "b", "EZQ_DATABASE_URL": "postgres://db/x", "EZQ_QUEUE_PORT": "no"})
	if both.Topic != "a" || both.DatabaseURL.Reveal() != "postgres://db/x" {
		t.Errorf("of two variables the wrong one counts: %v", both)
	}
}

func TestRead_NamesFaultWithRemedy(t *testing.T) {
	t.Parallel()
	for variable, values := range map[string]map[string]string{
		"EZQ_CONCURRENCY":                  {"many": "is not a whole number", "0": "is out of range", "-1": "is out of range", "1048577": "is out of range", "99999999999999999999": "is out of range"},
		"EZQ_CONSUMER_CONCURRENT_HANDLERS": {"1.5": "is not a whole number"},
		"EZQ_CONNECTIONS":                  {"1": "is out of range"},
		"EZQ_LEASE":                        {"soon": "is not a length of time", "10ms": "is out of range", "-5": "is out of range", "1e300": "is out of range", "NaN": "is out of range"},
		"EZQ_DRAIN_TIMEOUT":                {"0": "is out of range"},
		"EZQ_QUEUE_PORT":                   {"0": "is not a valid port", "x": "is not a number"},
		"EZQ_LOG_LEVEL":                    {"loud": "is not a level"},
	} {
		for value, problem := range values {
			_, err := ezqenv.Read(environment{variable: value}.lookup)
			var e *ezqenv.Error
			if !errors.As(err, &e) || e.Variable != variable || e.Problem != problem || e.Remedy == "" {
				t.Errorf("%s=%q: %v", variable, value, err)
			}
		}
	}
}

func TestConcurrency_LargestIsAcceptedByRouter(t *testing.T) {
	t.Parallel()
	settings := read(t, environment{"EZQ_CONCURRENCY": "1048576"})
	if err := ezq.NewRouter(memory.New(nil), settings.Router()).Ready(); errors.Is(err, ezq.ErrInvalidConfig) {
		t.Error(err)
	}
}

func TestError_ListsAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	settings, err := ezqenv.Read(environment{"EZQ_LEASE": "soon", "EZQ_CONCURRENCY": "0", "EZQ_LOG_LEVEL": "loud"}.lookup)
	if err == nil || strings.Count(err.Error(), "\n") != 2 || settings != (ezqenv.Settings{}) {
		t.Errorf("%v, with %v", err, settings)
	}
}

func TestTopic_DefaultsToThatOfEzq(t *testing.T) {
	t.Parallel()
	if got := read(t, nil).Topic; got != ezq.DefaultTopic {
		t.Errorf("it is %q", got)
	}
}
