package ezq_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/ezq"
)

// The topics are pinned: what is in a queue has to be found after an update of ezq.
func TestTopicOf_IsReadable(t *testing.T) {
	t.Parallel()
	for id, topic := range map[string]string{
		"acme":      "tenant_acme",
		"42":        "tenant_42",
		"Acme":      "tenant__khcme",
		"acme_dead": "tenant_acme_lvdead",
		"dead":      "tenant__mkead",
		"a b":       "tenant_a_igb",
		"ü":         "tenant__sj_rs",
		"":          "tenant_",
	} {
		require.Equal(t, topic, ezq.TopicOf("tenant", id), id)
	}
}

func FuzzTopicOf_IsThatOfOneID(f *testing.F) {
	f.Add("acme", "acme_dead")
	f.Add("dead", "")
	f.Add("\xdead", "_dead")
	f.Add("a", "a_h0123456789abcdef0123")
	plain := regexp.MustCompile(`^tenant_[a-z0-9_]*$`)
	f.Fuzz(func(t *testing.T, one, two string) {
		first, second := ezq.TopicOf("tenant", one), ezq.TopicOf("tenant", two)
		require.Equal(t, one == two, first == second)
		require.Regexp(t, plain, first)
		require.False(t, strings.HasSuffix(first, "_dead"), "it is the dead-letter topic of another one")
		require.NotEqual(t, first, ezq.TopicOf("room", one))
		require.NotEqual(t, first, ezq.TopicOf("tenants", two))
	})
}

func TestTopicOf_RequiresWordAsKind(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"", "a_b", "Tenant", "7", "ü", strings.Repeat("t", 21)} {
		require.Panics(t, func() { ezq.TopicOf(kind, "acme") }, kind)
	}
}
