package excerpt_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/excerpt"
)

func TestOf_KeepsShortText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "OrderPaid", strings.Repeat("x", 100)} {
		require.Equal(t, text, excerpt.Of(text))
	}
}

func FuzzExcerpt_CutsNoCharacterInHalf(f *testing.F) {
	f.Add(strings.Repeat("ü", 80))
	f.Add(strings.Repeat("x", 96) + "😀x")
	f.Add(strings.Repeat("\x80", 200))
	f.Fuzz(func(t *testing.T, text string) {
		short := excerpt.Of(text)
		require.LessOrEqual(t, len(short), excerpt.Longest)
		require.Equal(t, utf8.ValidString(text), utf8.ValidString(short) && utf8.ValidString(text), "no character is cut in half")
		require.True(t, strings.HasPrefix(text, strings.TrimSuffix(short, "…")))
	})
}
