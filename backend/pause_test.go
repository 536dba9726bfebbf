package backend_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
)

func TestPause_BadOnesAreRefused(t *testing.T) {
	t.Parallel()
	good := backend.Pause{By: "ada", Reason: "maintenance", For: time.Minute}
	require.NoError(t, good.Check())
	for name, spoil := range map[string]func(*backend.Pause){
		"no author":              func(p *backend.Pause) { p.By = "" },
		"a blank author":         func(p *backend.Pause) { p.By = " \n" },
		"a long author":          func(p *backend.Pause) { p.By = strings.Repeat("a", backend.MaxPauseAuthor+1) },
		"no reason":              func(p *backend.Pause) { p.Reason = "" },
		"a reason with NUL":      func(p *backend.Pause) { p.Reason = "a\x00" },
		"a reason that is bytes": func(p *backend.Pause) { p.Reason = "\xff" },
		"a long reason":          func(p *backend.Pause) { p.Reason = strings.Repeat("a", backend.MaxPauseReason+1) },
		"a negative duration":    func(p *backend.Pause) { p.For = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := good
			spoil(&bad)
			var refused *backend.RefusedError
			require.ErrorAs(t, bad.Check(), &refused)
		})
	}
}

func TestPaused_LongerOneOutlasts(t *testing.T) {
	t.Parallel()
	now := time.Now()
	endless, short, long := backend.Paused{}, backend.Paused{Until: now}, backend.Paused{Until: now.Add(1)}
	require.True(t, endless.Outlasts(long))
	require.True(t, long.Outlasts(short))
	require.False(t, short.Outlasts(long))
	require.False(t, long.Outlasts(endless))
	require.False(t, endless.Outlasts(endless))
}
