package terminal

import (
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// device is a writer that is a character device, as a terminal is.
type device struct{ strings.Builder }

func (*device) Stat() (fs.FileInfo, error) {
	return fstest.MapFS{"tty": {Mode: fs.ModeDevice | fs.ModeCharDevice}}.Stat("tty")
}

func TestStyle_IsForATerminalAlone(t *testing.T) {
	t.Parallel()
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, file.Close()) })
	with := func(variables ...string) func(string) (string, bool) {
		return func(name string) (string, bool) {
			for _, v := range variables {
				if value, ok := strings.CutPrefix(v, name+"="); ok {
					return value, true
				}
			}
			return "", false
		}
	}
	require.Equal(t, "\x1b[31mx\x1b[0m", StyleOf(&device{}, with("TERM=xterm")).Red("x"))
	require.Equal(t, "\x1b[1mx\x1b[0m", StyleOf(&device{}, with("NO_COLOR=")).Bold("x"))
	for _, plain := range []Style{
		{}, StyleOf(&device{}, with("NO_COLOR=1")), StyleOf(&device{}, with("TERM=dumb")), StyleOf(file, with()), StyleOf(&strings.Builder{}, with()),
	} {
		require.Equal(t, "x", plain.Yellow("x"))
	}
}

func TestIs_TellsATerminalFromTheNullDevice(t *testing.T) {
	t.Parallel()
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, null.Close()) })
	require.False(t, Is(null))
	require.True(t, Is(&device{}))
	require.False(t, Is(&strings.Builder{}))
}

func TestTable_HasColumnsAsWideAsTheirCells(t *testing.T) {
	t.Parallel()
	table := NewTable(Style{}, "TOPIC", "N")
	table.Add("bestellungen/größe", "1")
	table.Add("a", "22")
	var out strings.Builder
	require.NoError(t, table.Write(&out))
	require.Equal(t, "TOPIC               N\nbestellungen/größe  1\na                   22\n", out.String())
}
