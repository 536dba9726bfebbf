package backend

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestDeadLetterReason_FitsAnyBackend(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"a text", "boom: größer\nals zwei Zeilen", "boom: größer\nals zwei Zeilen"},
		{"no UTF-8", "boom \xff\xfe!", "boom \uFFFD!"},
		{"NUL", "a\x00b", "a\uFFFDb"},
		{"as long as it may be", strings.Repeat("a", 1024), strings.Repeat("a", 1024)},
		{"a byte longer", strings.Repeat("a", 1025), strings.Repeat("a", 1021) + "…"},
		{"not cut within a character", strings.Repeat("€", 1000), strings.Repeat("€", 340) + "…"},
		{"longer once it is clean", strings.Repeat("\x00", 1000), strings.Repeat("\uFFFD", 340) + "…"},
		{"shorter once it is clean", strings.Repeat("\xff", 2000), "\uFFFD…"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, reason(test.text))
		})
	}
}

func FuzzAReasonCanBeStoredAnywhere(f *testing.F) {
	f.Add("boom")
	f.Add(strings.Repeat("\xff", 1100))
	f.Add(strings.Repeat("a", 1022) + "€\x00")
	f.Fuzz(func(t *testing.T, text string) {
		got := reason(text)
		require.True(t, utf8.ValidString(got))
		require.LessOrEqual(t, len(got), maxReason)
		require.NotContains(t, got, "\x00")
		if len(text) <= maxReason && utf8.ValidString(text) && !strings.Contains(text, "\x00") {
			require.Equal(t, text, got)
		}
	})
}
