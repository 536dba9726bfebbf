package main

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHint_QuotesArgumentForShell(t *testing.T) {
	t.Parallel()
	for argument, want := range map[string]string{
		"orders":              "orders",
		"tenant/a-b.c:d@e+1":  "tenant/a-b.c:d@e+1",
		"":                    "''",
		"two words":           "'two words'",
		"größe":               "'größe'",
		"$(reboot) `x` !! \\": `'$(reboot) ` + "`x`" + ` !! \'`,
		"~":                   "'~'",
		"it's":                `'it'\''s'`,
		"tenant_acme\u009b":   `$'tenant_acme\xc2\x9b'`,
		"a\nb'\\!c\x1b1":      `$'a\x0ab\'\\\x21c\x1b1'`,
		"a\u202eb\u00a0c":     `$'a\xe2\x80\xaeb\xc2\xa0c'`,
		"a\xff\xfeb":          `$'a\xff\xfeb'`,
	} {
		got := shellWord(argument)
		require.Equal(t, want, got)
		requireHarmless(t, got)
		bash, err := exec.LookPath("bash")
		if err != nil {
			t.Log("there is no bash to ask")
			continue
		}
		out, err := exec.CommandContext(t.Context(), bash, "-c", "printf %s "+got).Output()
		require.NoError(t, err)
		require.Equal(t, argument, string(out), got)
	}
}

func TestHint_QuotesForeignTopicForShell(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	insertFrom(t, database, "tenant_acme\u009b", 1)
	_, out, _ := outputOf(t, database, "redrive", "orders", "-show")
	require.Contains(t, out, ` 1 from "tenant_acme\u009b" stay: if they may go there, add -from $'tenant_acme\xc2\x9b'`+"\n")
	_, out, _ = outputOf(t, database, "redrive", "orders", "-show", "-from", "tenant_acme\u009b")
	require.Contains(t, out, ` 1 from "tenant_acme\u009b" stay until the topic has a queue`)
}
