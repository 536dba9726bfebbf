package codec

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestUnquote_ResolvesEscapes(t *testing.T) {
	t.Parallel()
	for quoted, text := range map[string]string{
		``:                          "",
		`text`:                      "text",
		`\"\\\/\b\f\n\r\t`:          "\"\\/\b\f\n\r\t",
		`\u0041\u00e9\uFFFD`:        "Aé\ufffd",
		`\ud83d\ude00 \uD83D\uDE00`: "😀 😀",
		`ü注😀`:                       "ü注😀",
	} {
		got, ok := unquote([]byte(quoted))
		require.True(t, ok, quoted)
		require.Equal(t, text, string(got))
	}
}

func TestUnquote_RefusesInvalidEscape(t *testing.T) {
	t.Parallel()
	for _, quoted := range []string{`\`, `\x`, `\u`, `\u123`, `\u12g4`, `\ud83d`, `\ud83d\u0041`, `\ude00`, `a\`, `\ud83d\ude0`} {
		_, ok := unquote([]byte(quoted))
		require.False(t, ok, quoted)
	}
}

func FuzzQuote_IsUndoneByUnquote(f *testing.F) {
	f.Add("text")
	f.Add("\x00\x1f\"\\/\u2028<ü😀")
	f.Add(strings.Repeat("\n", 100))
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = unquote([]byte(text))
		if !utf8.ValidString(text) {
			return
		}
		quoted := appendQuoted(nil, text)
		require.Equal(t, quoted, appendQuoted(nil, []byte(text)))

		var theirs string
		require.NoError(t, json.Unmarshal(quoted, &theirs))
		require.Equal(t, text, theirs)

		for _, quoted := range [][]byte{quoted, marshal(t, text)} {
			ours, ok := unquote(quoted[1 : len(quoted)-1])
			require.True(t, ok)
			require.Equal(t, text, string(ours))
		}
	})
}

func marshal(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	return text
}
