package terminal

import (
	"os/exec"
	"strings"
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
		got := ShellWord(argument)
		require.Equal(t, want, got)
		require.Negative(t, strings.IndexFunc(got, isHidden), "%q", got)
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
