package command

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

func newDoctor(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look for what slows the queues down, stops them, or loses events", Args: none(),
		Long: `Look for what slows the queues down, stops them, or loses events, and say what to do. It changes nothing.

It does not tell whether consumers work now, and counts no dead letters: run ezq queues, twice. If OLDEST grows as
fast as the clock, none does.

docs/doctor.md has more on each finding. It exits with 1 if one is as severe as --fail says.`,
	}
	asJSON := jsonFlag(cmd)
	severity := pgmq.SeverityFailure
	cmd.Flags().Var(&funcValue{kind: "severity", text: "failure", reads: func(text string) error {
		return severity.UnmarshalText([]byte(text))
	}}, "fail", "exit with 1 from that severity on: note, warning or failure")
	s.runs(cmd, func(ctx context.Context, _ []string) error {
		client, err := s.client(ctx)
		if err != nil {
			return err
		}
		found, err := client.Check(ctx)
		if *asJSON {
			if failed := s.printJSON(append([]pgmq.Finding{}, found...)); failed != nil { // never null
				return failed
			}
		} else {
			printFindings(s, found, err == nil)
		}
		severe := 0
		for _, f := range found {
			if f.Severity >= severity {
				severe++
			}
		}
		if err == nil && severe > 0 {
			err = fmt.Errorf("findings with the severity %v or more: %d", severity, severe)
		}
		return err
	})
	return cmd
}

func printFindings(s *session, found []pgmq.Finding, all bool) {
	for i, f := range found {
		if i == 0 || found[i-1].ID != f.ID { // the remedy stands where one of its kind comes first
			s.printf("%s: %s\n  do: %s\n", severityText(s, f.Severity), s.style.Bold(f.ID), f.Remedy)
		}
		if f.Object == "" {
			s.printf("  %s\n", terminal.SingleLine(f.Seen))
		} else {
			s.printf("  %s: %s\n", terminal.SingleLine(f.Object), terminal.SingleLine(f.Seen))
		}
		if f.SQL != "" {
			s.printf("      %s;\n", terminal.SingleLine(f.SQL))
		}
	}
	if all && len(found) == 0 {
		s.printf("Nothing was found.\n")
	}
}

func severityText(s *session, severity pgmq.Severity) string {
	switch severity {
	case pgmq.SeverityFailure:
		return s.style.Red(severity.String())
	case pgmq.SeverityWarning:
		return s.style.Yellow(severity.String())
	default:
		return severity.String()
	}
}
