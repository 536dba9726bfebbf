package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/console"
)

// consoleOf returns a function that sends a request to the console of these users, and returns the status.
func consoleOf(t *testing.T, users string) (send func(method, name, password, path string) int) {
	t.Helper()
	all, err := parseOperators(users)
	if err != nil {
		t.Fatal(err)
	}
	broker := memory.New(nil)
	t.Cleanup(func() { _ = broker.Close() })
	if err := broker.SubscribeInitialize("orders"); err != nil {
		t.Fatal(err)
	}
	shown, err := console.New(broker, &console.Config{Prefix: consolePath, Allow: all.rights, User: operatorOf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shown.Close() })
	s := &service{console: shown, operators: all}
	return func(method, name, password, path string) int {
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(url.Values{"action": {"pause"}, "topic": {"orders"}, "why": {"test"}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if name != "" {
			r.SetBasicAuth(name, password)
		}
		answer := httptest.NewRecorder()
		s.routes().ServeHTTP(answer, r)
		return answer.Code
	}
}

func TestConsole_IsForOperators(t *testing.T) {
	t.Parallel()
	send := consoleOf(t, "ada:secret,alan:other:read")
	for name, c := range map[string]struct {
		method, user, password, path string
		want                         int
	}{
		"without a name":               {http.MethodGet, "", "", "/console/", http.StatusUnauthorized},
		"with a wrong password":        {http.MethodGet, "ada", "other", "/console/", http.StatusUnauthorized},
		"without a password":           {http.MethodGet, "ada", "", "/console/", http.StatusUnauthorized},
		"with an unknown name":         {http.MethodGet, "eve", "", "/console/", http.StatusUnauthorized},
		"as an operator":               {http.MethodGet, "ada", "secret", "/console/", http.StatusOK},
		"a change without a name":      {http.MethodPost, "", "", "/console/do", http.StatusUnauthorized},
		"a change by one who may read": {http.MethodPost, "alan", "other", "/console/do", http.StatusForbidden},
		"a page for one who may read":  {http.MethodGet, "alan", "other", "/console/queue?topic=orders", http.StatusOK},
		"a change by an operator":      {http.MethodPost, "ada", "secret", "/console/do", http.StatusSeeOther},
	} {
		if got := send(c.method, c.user, c.password, c.path); got != c.want {
			t.Errorf("%s: the status is %d, and not %d", name, got, c.want)
		}
	}
}

func TestConsole_WithoutUsersIsClosed(t *testing.T) {
	t.Parallel()
	send := consoleOf(t, "")
	for _, name := range []string{"", "ada"} {
		if got := send(http.MethodGet, name, "", "/console/"); got != http.StatusUnauthorized {
			t.Errorf("%q: the status is %d", name, got)
		}
	}
}

func TestOperators_ThatCannotBeReadAreNotRepeated(t *testing.T) {
	t.Parallel()
	for _, users := range []string{"eve", "eve:", ":hidden", "eve:hidden:write", "eve:hidden,", "eve:hid:d:en"} {
		if _, err := parseOperators(users); err == nil || strings.Contains(err.Error(), users) {
			t.Errorf("%q: %v", users, err)
		}
	}
}
