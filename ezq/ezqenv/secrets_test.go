package ezqenv_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ezq-go/ezq/ezq/ezqenv"
)

// numeric are the variables that hold no text of free choice.
func numeric() []string {
	return []string{
		"EZQ_CONCURRENCY", "EZQ_CONSUMER_CONCURRENT_HANDLERS", "EZQ_CONNECTIONS", "EZQ_HANDLER_TIMEOUT", "EZQ_CONSUMER_TIMEOUT",
		"EZQ_DRAIN_TIMEOUT", "EZQ_CONSUMER_SHUTDOWN_GRACE_PERIOD", "EZQ_POLL_INTERVAL", "EZQ_CONSUMER_POLL_INTERVAL", "EZQ_LEASE",
		"EZQ_LOG_LEVEL", "EZQ_QUEUE_PORT",
	}
}

// requireUnseen fails if the error about a value shows any of it.
func requireUnseen(t *testing.T, variable, value string) {
	t.Helper()
	_, err := ezqenv.Read(environment{variable: value}.lookup)
	var e *ezqenv.Error
	if !errors.As(err, &e) || e.Variable != variable {
		t.Fatalf("%s=%q: %#v", variable, value, err)
	}
	if text := fmt.Sprintf("%v %#v", err, *e); strings.Contains(text, password) {
		t.Fatalf("%s=%q is shown: %s", variable, value, text)
	}
	if !strings.HasPrefix(err.Error(), "ezqenv: "+variable+" is ") {
		t.Errorf("%s=%q: %v", variable, value, err)
	}
}

func TestError_HidesPossibleSecret(t *testing.T) {
	t.Parallel()
	for _, variable := range numeric() {
		for _, value := range []string{
			"postgres://bob:hunter2@h/x", "bob:hunter2@h", "bob:hunter2", "password=hunter2", "host=h password=hunter2", "hunter2/", "hunter2%40", "12\thunter2",
			"hunter2hunter2hunter2hunter2hunter2", "hunter2\x00", "hunter2ß", "'hunter2'", "#hunter2",
		} {
			requireUnseen(t, variable, value)
		}
	}
	for _, variable := range []string{"EZQ_TOPIC", "EZQ_DEFAULT_QUEUE_NAME", "EZQ_GROUP"} {
		_, err := ezqenv.Read(environment{variable: password + "\x00"}.lookup)
		want := fmt.Sprintf("ezqenv: %s cannot be the name of a queue: set it to at most 1024 bytes of UTF-8 without NUL", variable)
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v", variable, err)
		}
	}
}

func FuzzError_ShowsNoURL(f *testing.F) {
	f.Add("postgres", "bob", "", "h", "/x")
	f.Add("", "", "a@", "", "")
	f.Fuzz(func(t *testing.T, scheme, user, before, host, rest string) {
		if strings.Contains(scheme+user+before+host+rest, "hunter") {
			t.Skip()
		}
		for _, variable := range append(numeric(), "EZQ_QUEUE_HOST") {
			for _, value := range []string{scheme + "://" + user + ":" + before + password + "@" + host + rest, user + ":" + password + "@" + host} {
				requireUnseen(t, variable, value)
			}
		}
	})
}

func TestError_NamesVariableOfInvalidHost(t *testing.T) {
	t.Parallel()
	const remedy = "is not a host: set it to a name or an address alone, as in db.example.com: EZQ_QUEUE_PORT, EZQ_QUEUE_USERNAME, " +
		"EZQ_QUEUE_PASSWORD and EZQ_QUEUE_DATABASE have the rest"
	for _, host := range []string{"a b@c", "bob:hunter2@c", "postgres://bob:hunter2@c/x", "a b", "db:5432", "db/shop", "db?x", "/var/run/postgresql", "[::1]", "a=b"} {
		_, err := ezqenv.Read(environment{"EZQ_QUEUE_HOST": host}.lookup)
		if want := "ezqenv: EZQ_QUEUE_HOST " + remedy; err == nil || err.Error() != want {
			t.Errorf("%q: %v", host, err)
		}
	}
	for _, host := range []string{"db", "db.example.com", "10.0.0.7", "::1", "fe80::1", "db_1", "db-1.", "dätenbank", "a,b"} {
		read(t, environment{"EZQ_QUEUE_HOST": host})
	}
}

func TestError_NamesVariableContainingWholeURL(t *testing.T) {
	t.Parallel()
	const url = "postgres://bob:hunter2@c/x"
	for variable, problem := range map[string]string{"EZQ_QUEUE_USERNAME": "is not the name of a role", "EZQ_QUEUE_DATABASE": "is not the name of a database", "EZQ_TOPIC": "is not the name of a topic", "EZQ_GROUP": "is not the name of a group"} {
		_, err := ezqenv.Read(environment{variable: url}.lookup)
		if want := "ezqenv: " + variable + " " + problem + ": set it to the name alone; EZQ_DATABASE_URL is for connection settings"; err == nil || err.Error() != want {
			t.Errorf("%s: %v", variable, err)
		}
	}
	_, err := ezqenv.Read(environment{"EZQ_QUEUE_HOST": url, "EZQ_QUEUE_PORT": url, "EZQ_QUEUE_USERNAME": url, "EZQ_QUEUE_DATABASE": url}.lookup)
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("not all are named: %v", err)
	}
}

// A log would have lines then that no program has written.
func TestSettings_PrintInOneLine(t *testing.T) {
	t.Parallel()
	const odd = "mail\nEZQ_LEASE=1s \"x\""
	settings := read(t, environment{"EZQ_TOPIC": odd, "EZQ_GROUP": odd})
	shown := settings.String()
	if strings.ContainsAny(shown, "\n\r") || !strings.Contains(shown, `EZQ_GROUP="mail\nEZQ_LEASE=1s \"x\"" EZQ_LOG_LEVEL=INFO`) {
		t.Errorf("it is %s", shown)
	}
}
