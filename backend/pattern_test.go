package backend_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
)

func TestMatchesPattern_MeansWhatPGMQMeans(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]struct{ matched, others []string }{
		"orders.*":   {[]string{"orders.eu", "orders.größe", "orders.a b", "orders.*", "orders.x_dea"}, []string{"orders", "orders.", "orders.eu.paid", "Orders.eu", "orders_eu", "x.orders.eu", "orders.eu_dead"}},
		"orders.#":   {[]string{"orders.eu", "orders.eu.paid", "orders.", "orders.\n.x"}, []string{"orders", "ordersx", "orders.eu_dead"}},
		"*.paid":     {[]string{"eu.paid", " .paid"}, []string{".paid", "paid", "a.eu.paid", "eu.paid.x"}},
		"#.paid":     {[]string{"eu.paid", "a.eu.paid", ".paid", "paid.paid"}, []string{"paid", "eu.paids"}},
		"*":          {[]string{"orders", "ü", "a b"}, []string{"a.b", ".", "orders_dead"}},
		"#":          {[]string{"orders", "a.b.c", "."}, []string{"orders_dead"}},
		"a.*.c":      {[]string{"a.b.c"}, []string{"a.c", "a..c", "a.b.b.c"}},
		"a.#.c":      {[]string{"a..c", "a.b.c", "a.b.b.c", "a.c.c"}, []string{"a.c", "a.b.c.d"}},
		"#.a.*.b.#":  {[]string{"x.a.1.b.y", ".a.1.b.", "a.1.a.2.b.c", "x.a.a.1.b.y"}, []string{"a.1.b.c", "x.a.1.c.b.y"}},
		"#.a.#.b.*":  {[]string{".a.x.b.c", "0.a.b.b.1"}, []string{".a.b.c", "0.a.b.b.1.2"}},
		"orders.eu.": {nil, []string{"orders.eu"}},
	} {
		for _, topic := range want.matched {
			require.True(t, backend.MatchesPattern(pattern, topic), "%s, %q", pattern, topic)
		}
		for _, topic := range want.others {
			require.False(t, backend.MatchesPattern(pattern, topic), "%s, %q", pattern, topic)
		}
	}
}

func TestMatchesPattern_IsFastWhateverItIsGiven(t *testing.T) {
	t.Parallel()
	pattern := strings.Repeat("#.", 120) + "a"
	require.NoError(t, backend.CheckPattern(pattern))
	require.False(t, backend.MatchesPattern(pattern, strings.Repeat(".", 1000)+"b"))
	require.True(t, backend.MatchesPattern(pattern, strings.Repeat(".", 1000)+"a"))
}

func TestCheckPattern_TakesSegmentsOnly(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"*", "#", "orders.*", "orders.#", "#.paid", "a-b_C.*.9", "*.*", strings.Repeat("a", 253) + ".*"} {
		require.NoError(t, backend.CheckPattern(pattern), pattern)
		require.True(t, backend.IsPattern(pattern), pattern)
	}
	for pattern, reason := range map[string]string{
		"": "it is empty", "orders": "no *", "**": "beside another", "a.#b": "beside another", "*#": "beside another", "orders.##": "beside another",
		"orders*": "beside another", ".*": "empty segment", "orders..*": "empty segment", "*.": "empty segment", "größe.*": "other characters",
		"a b.*": "other characters", "a\x00.*": "other characters", "*.paid_dead": "dead letters", strings.Repeat("a", 254) + ".*": "256 bytes, and the limit is 255",
	} {
		err := backend.CheckPattern(pattern)
		require.ErrorContains(t, err, reason, pattern)
		refused := (*backend.RefusedError)(nil)
		require.ErrorAs(t, err, &refused)
		require.ErrorContains(t, err, `"orders.*"`)
	}
}

func TestCheckPublishTopic_RefusesPatternsAndNoOtherNames(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"*", "#", "**", "orders.*", "a.#.b", "größe.#"} {
		require.ErrorContains(t, backend.CheckPublishTopic(pattern), "it is a pattern", pattern)
	}
	for _, topic := range []string{"C#", "a*b", "#general", "orders.*_dead", "orders.*.paid_dead", "a.#b", "."} {
		require.NoError(t, backend.CheckPublishTopic(topic), topic)
	}
	require.ErrorContains(t, backend.CheckPublishTopic(""), "it is empty")
}
