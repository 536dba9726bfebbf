package backend_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
)

func TestPeekPlace_IsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	for _, p := range []backend.PeekPlace{{}, {Due: -1, Row: 2}, {Due: math.MinInt64, Row: math.MaxInt64}, {Due: math.MaxInt64, Row: math.MinInt64}} {
		read, err := backend.ParsePeekPlace(p.String())
		require.NoError(t, err)
		require.Equal(t, p, read)
	}
	first, err := backend.ParsePeekPlace("")
	require.NoError(t, err)
	require.Equal(t, backend.FirstPeekPlace(), first)
}

func TestPeek_RefusesWhatChoosesNoMessage(t *testing.T) {
	t.Parallel()
	for _, p := range []backend.Peek{
		{Limit: -1}, {Limit: backend.MaxPeekLimit + 1}, {Group: "\x00"}, {After: "x"}, {After: "1"}, {After: "1.2.3"}, {After: "1.2 "}, {After: "+1.2"}, {After: "99999999999999999999.1"},
	} {
		var refused *backend.RefusedError
		require.ErrorAs(t, p.Check(), &refused, "%+v", p)
	}
	require.NoError(t, backend.Peek{Group: "g", After: "-1.-2", Limit: backend.MaxPeekLimit}.Check())
}
