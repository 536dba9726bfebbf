package console_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/console"
)

// Fields come to the log, and into links.
func TestConsole_RefusesLongFields(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything())
	long := strings.Repeat("x", 4<<10+1)
	for _, name := range []string{"id", "schedule", "why", long} {
		got := s.post("/do", form("action", "cancel", "topic", "orders", name, long))
		require.Equal(t, http.StatusBadRequest, got.StatusCode)
		require.Contains(t, got.body, "A field has 4097 bytes, and at most 4096 are taken")
		require.Less(t, len(got.body), 4<<10)
	}
	for _, path := range []string{"/?q=" + long, "/event?id=" + long, "/confirm?action=edit&payload=" + long} {
		require.Equal(t, http.StatusBadRequest, s.get(path).StatusCode)
	}
	require.Empty(t, s.log.String())
	require.Equal(t, http.StatusOK, s.get("/event?id="+long[1:]).StatusCode)
	payload := `"` + strings.Repeat("x", 100<<10) + `"`
	require.Contains(t, s.do(form("action", "edit", "topic", "orders_dead", "row", "1", "version", version(), "payload", payload)).body, "It is changed")
}

func TestDone_CutsWhatOthersHaveWrittenIntoTheCookie(t *testing.T) {
	t.Parallel()
	s := newSite(t, newBroker(t), console.Everything())
	const link = "done?action=resume&topic=orders"
	sum := sha256.Sum256([]byte(link))
	forged := httptest.NewRequest(http.MethodGet, "/"+link, nil)
	forged.Header.Set("Cookie", "ezq_done="+base64.RawURLEncoding.EncodeToString(append(sum[:], strings.Repeat("é", 10_000)...)))
	require.Equal(t, 500, strings.Count(s.serve(forged).body, "é"))
}

// A link can name a change that never was.
func TestDone_WithoutTheCookieSaysThatNothingIsKnown(t *testing.T) {
	t.Parallel()
	got := newSite(t, newBroker(t), console.Everything()).get("/done?action=purge&topic=orders_dead").body
	require.Contains(t, got, "Nothing is known here of such a change, nor whether there was one.")
	require.NotContains(t, got, "What it has done is in the log")
}
