package ezqenv_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ezq-go/ezq/ezq/ezqenv"
)

// numeric are the variables that hold no text of somebody's choice.
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
	settings, err := ezqenv.Read(environment{variable: value}.lookup)
	var e *ezqenv.Error
	if !errors.As(err, &e) || e.Variable != variable || e.Value != "" {
		t.Fatalf("%s=%q: %#v", variable, value, err)
	}
	for _, text := range shown(settings, err) {
		if strings.Contains(text, password) {
			t.Fatalf("%s=%q is shown:\n%s", variable, value, text)
		}
	}
	if !strings.HasPrefix(err.Error(), "ezqenv: "+variable+" is ") {
		t.Errorf("%s=%q: %v", variable, value, err)
	}
}

func TestAValueThatMayHoldASecretIsNotShown(t *testing.T) {
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

func FuzzNoErrorShowsAURL(f *testing.F) {
	f.Add("postgres", "bob", "", "h", "/x")
	f.Add("", "", "a@", "", "")
	f.Fuzz(func(t *testing.T, scheme, user, before, host, rest string) {
		if strings.Contains(scheme+user+before+host+rest, "hunter") {
			t.Skip()
		}
		for _, variable := range numeric() {
			for _, value := range []string{scheme + "://" + user + ":" + before + password + "@" + host + rest, user + ":" + password + "@" + host} {
				requireUnseen(t, variable, value)
			}
		}
	})
}
