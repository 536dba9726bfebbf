package command

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConsole_SaysWhoChangesSomething(t *testing.T) {
	t.Parallel()
	require.Equal(t, "ada with ezq console", consoleUser("ada"))
	require.Equal(t, "ezq console", consoleUser(""))
}

func TestConsole_ShowsADemoUntilItIsStopped(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, in := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- Run(ctx, []string{"console", "--demo", "--listen", "127.0.0.1:0", "--allow", "redrive,pause"}, Process{Out: in, Err: io.Discard, Lookup: lookupIn(nil)})
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	_, link, _ := strings.Cut(line, " is at ")
	link, _, _ = strings.Cut(link, ". ")
	for host, status := range map[string]int{"": http.StatusOK, "localhost:1": http.StatusOK, "evil.example": http.StatusMisdirectedRequest} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
		require.NoError(t, err)
		r.Host = host
		got, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		text, err := io.ReadAll(got.Body)
		require.NoError(t, err)
		require.NoError(t, got.Body.Close())
		require.Equal(t, status, got.StatusCode, string(text))
	}
	stop()
	require.Zero(t, <-code)
}

func TestConsole_IsServedToOtherMachinesOnlyIfThatIsMeant(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:80", "example.com:80", "nothing"} {
		var err strings.Builder
		code := Run(t.Context(), []string{"console", "--demo", "--listen", address}, Process{Out: io.Discard, Err: &err, Lookup: lookupIn(nil)})
		require.Equal(t, exitUsage, code, address)
		require.Contains(t, err.String(), "--allow-remote")
	}
}

func TestConsole_AllowsWhatIsNamed(t *testing.T) {
	t.Parallel()
	var err strings.Builder
	code := Run(t.Context(), []string{"console", "--demo", "--allow", "everything"}, Process{Out: io.Discard, Err: &err, Lookup: lookupIn(nil)})
	require.Equal(t, exitUsage, code)
	require.Contains(t, err.String(), "redrive, edit, purge")
}
