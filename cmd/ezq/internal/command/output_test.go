package command

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// fullDisk is a file on a disk that has room for so many bytes.
type fullDisk struct{ left int }

func (d *fullDisk) Write(text []byte) (int, error) {
	n := min(d.left, len(text))
	d.left -= n
	if n < len(text) {
		return n, fmt.Errorf("write /dev/stdout: %w", syscall.ENOSPC)
	}
	return n, nil
}

// An operator writes a letter into a file and then purges it.
func TestOutput_ThatIsLostMakesTheCommandFail(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	_, err := client.DropQueue(t.Context(), "ezq_schedules")
	require.NoError(t, err)
	require.NoError(t, client.SubscribeInitialize("ezq_schedules"))
	runSchedule(t, client, "report")
	var letter strings.Builder
	code := Run(t.Context(), []string{"dead", "show", "orders", "--row", "1"}, Process{Out: &letter, Lookup: lookupIn(map[string]string{"EZQ_DATABASE_URL": database})})
	require.Zero(t, code)
	tested := map[string]bool{"dead": true, "dev": true, "console": true} // the last two go on
	for _, args := range [][]string{
		{"sql", "--what", "ezq"},
		{"version"},
		{"version", "--json"},
		{"--help"},
		{"dead", "show", "--help"},
		{"completion", "bash"},
		{"install", "--dry-run", "--file", pgmqFile(t)},
		{"upgrade", "--dry-run", "--file", pgmqFile(t)},
		{"init", "orders", "--dry-run"},
		{"init", "payments", "--yes"},
		{"grants", "--role", "shop", "--publish", "orders"},
		{"queues"},
		{"queues", "--json"},
		{"peek", "orders"},
		{"peek", "orders", "--json"},
		{"tail", "orders"},
		{"tail", "orders", "--follow"},
		{"tail", "orders", "--follow", "--json"},
		{"publish", "orders", "-d", `{"_type":"OrderPaid"}`, "--id", "order-8", "--create"},
		{"publish", "orders", "--lines"},
		{"find", "orders", "--id", "order-8"},
		{"reschedule", "orders", "--id", "order-8", "--delay", "1h"},
		{"cancel", "orders", "--id", "order-8"},
		{"dead", "list", "orders"},
		{"dead", "list", "orders", "--json"},
		{"dead", "show", "orders", "--row", "1"},
		{"dead", "edit", "orders", "--file", "-"},
		{"dead", "redrive", "orders", "--dry-run"},
		{"dead", "redrive", "orders", "--max", "1"},
		{"dead", "redrive", "orders", "--max", "1", "--json"},
		{"dead", "purge", "orders", "--yes"},
		{"pause", "orders", "--reason", "a"},
		{"pause", "orders", "--reason", "a", "--json"},
		{"resume", "orders"},
		{"schedules"},
		{"schedules", "list", "--json"},
		{"schedules", "pause", "report", "--reason", "a"},
		{"schedules", "resume", "report"},
		{"doctor"},
		{"doctor", "--json"},
	} {
		path, _ := parse(args)
		tested[strings.TrimPrefix(path, "ezq ")] = true
		in := map[bool]string{true: letter.String()}[strings.HasPrefix(path, "ezq dead edit")]
		for _, room := range []int{0, 5} {
			var errOut strings.Builder
			code := Run(t.Context(), append(args, "--timeout", "30s"), Process{
				In: strings.NewReader(in), Out: &fullDisk{room}, Err: &errOut, Lookup: lookupIn(map[string]string{"EZQ_DATABASE_URL": database}),
			})
			require.Equal(t, exitFailed, code, "%s: %s", args, errOut.String())
			require.Equal(t, 1, strings.Count(errOut.String(), "not all could be printed: write /dev/stdout: no space left on device; what was done stays done\n"), "%s: %s", args, errOut.String())
			if args[0] == "dead" && args[1] == "edit" {
				break // the letter has another version then
			}
		}
	}
	for _, path := range allCommands(t) {
		require.True(t, tested[strings.Join(path, " ")], path)
	}
	require.True(t, ask[bool](t, database, "select count(*) = 0 from pgmq.q_orders_dead"))
}

func TestOutput_ErrorStandsBesideThatOfTheCommand(t *testing.T) {
	t.Parallel()
	lost := &outputError{errors.New("full")}
	require.NoError(t, withLost(nil, nil))
	require.Equal(t, lost, errors.Unwrap(withLost(nil, lost)))
	both := withLost(&taskError{err: errors.New("late"), timedOut: true}, lost)
	require.EqualError(t, both, "late\nnot all could be printed: full; what was done stays done")
	done, ok := errors.AsType[*taskError](both)
	require.True(t, ok && done.timedOut)
	require.EqualError(t, withLost(wrong("no"), lost), "no", "nothing else was tried")
}
