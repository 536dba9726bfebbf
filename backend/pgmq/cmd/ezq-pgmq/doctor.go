package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/ezq-go/ezq/backend/pgmq"
)

// examine shows what endangers the queues. It returns an error if something is that severe.
func examine(ctx context.Context, client *pgmq.Client, asJSON bool, severity pgmq.Severity, out io.Writer) error {
	found, err := client.Check(ctx)
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		if failed := encoder.Encode(append([]pgmq.Finding{}, found...)); failed != nil { // never null
			return failed
		}
	} else {
		for i, f := range found {
			printFinding(out, f, i > 0 && found[i-1].ID == f.ID)
		}
		if err == nil && len(found) == 0 {
			_, _ = fmt.Fprintln(out, "Nothing was found.")
		}
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
}

// printFinding prints a finding, of which the remedy stands where one of its kind comes first.
func printFinding(out io.Writer, f pgmq.Finding, again bool) {
	if !again {
		_, _ = fmt.Fprintf(out, "%v: %s\n  do: %s\n", f.Severity, f.ID, f.Remedy)
	}
	if f.Object == "" {
		_, _ = fmt.Fprintf(out, "  %s\n", singleLine(f.Seen))
	} else {
		_, _ = fmt.Fprintf(out, "  %s: %s\n", singleLine(f.Object), singleLine(f.Seen))
	}
	if f.SQL != "" {
		_, _ = fmt.Fprintf(out, "      %s;\n", singleLine(f.SQL))
	}
}
