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
		{"an empty text", "", ""},
		{"a text of two lines", "boom: größer\nals zwei Zeilen", "boom: größer\nals zwei Zeilen"},
		{"a text that is not UTF-8", "boom \xff\xfe!", "boom \uFFFD!"},
		{"a text with NUL", "a\x00b", "a\uFFFDb"},
		{"a text of the greatest length", strings.Repeat("a", 1024), strings.Repeat("a", 1024)},
		{"a text one byte too long", strings.Repeat("a", 1025), strings.Repeat("a", 1021) + "…"},
		{"a cut at the end of a character", strings.Repeat("€", 1000), strings.Repeat("€", 340) + "…"},
		{"a text that is too long once it is clean", strings.Repeat("\x00", 1000), strings.Repeat("\uFFFD", 340) + "…"},
		{"a text that is short enough once it is clean", strings.Repeat("\xff", 2000), "\uFFFD…"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, reason(test.text))
		})
	}
}

func FuzzDeadLetterReason_CanBeStoredAnywhere(f *testing.F) {
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
