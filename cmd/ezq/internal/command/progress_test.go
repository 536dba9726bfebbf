package command

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProgress_IsOneLineThatIsGoneAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var errOut strings.Builder
		s := newSession(Process{Err: &errOut, Lookup: lookupIn(nil)})
		states := []string{"3 are left\x1b[2J", "", "1 is left"}
		require.NoError(t, showProgress(t.Context(), s, func(context.Context) string {
			state := states[0]
			states = states[1:]
			return state
		}, func() error {
			time.Sleep(3*progressInterval + progressInterval/2)
			return nil
		}))
		require.Equal(t, "\r\x1b[K3 are left [2J\r\x1b[K1 is left\r\x1b[K", errOut.String())
	})
	var errOut strings.Builder
	s := newSession(Process{Err: &errOut, Lookup: lookupIn(nil)})
	require.NoError(t, withProgress(t.Context(), s, func(context.Context) string { return "x" }, func() error { return nil }))
	require.Empty(t, errOut.String(), "it is for a terminal alone")
}
