package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

// maxDocument is how many bytes a file with a dead letter may have: more than PostgreSQL takes.
const maxDocument = 1 << 30

func newDeadEdit(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "edit TOPIC", Short: "Replace the payload of a dead letter",
		Long: `Replace the payload of a dead letter, which stays where it is: redrive it afterwards.

The file is what dead show has printed, with another "payload". What has changed since is not overwritten.`,
		Example: "  ezq dead show orders --row 42 > letter.json\n  ezq dead edit orders --file letter.json",
	}
	var f deadFlags
	f.defineTopic(s, cmd)
	var by string
	byFlag(cmd, &by)
	file := cmd.Flags().StringP("file", "f", "", `the file with the dead letter; "-" is the standard input`)
	s.runs(cmd, func(ctx context.Context, _ []string) error {
		if *file == "" {
			return wrong("name the file with the dead letter with --file: ezq dead show has written it, and its payload is edited")
		}
		edit, err := readEdit(ctx, s, *file)
		if err != nil {
			return err
		}
		edit.By = by
		client, err := s.client(ctx)
		if err != nil {
			return err
		}
		if err := client.EditDeadLetter(ctx, f.topic, edit); err != nil {
			return f.explainError(err, "")
		}
		where := "--in " + terminal.ShellWord(f.topic) + " --from TOPIC"
		if topic, ok := strings.CutSuffix(f.topic, backend.DeadLetterSuffix); ok {
			where = terminal.ShellWord(topic)
		}
		s.printf("edited: %d; to send it back, run ezq dead redrive %s --row %d\n", edit.Row, where, edit.Row)
		return nil
	})
	return cmd
}

// readEdit reads a dead letter whose payload was edited.
func readEdit(ctx context.Context, s *session, file string) (edit backend.DeadLetterEdit, err error) {
	text, err := readFile(ctx, s, file, maxDocument)
	if err != nil {
		return edit, err
	}
	name := terminal.Printable(file)
	var doc struct {
		Row     int64           `json:"row"`
		Version string          `json:"version"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return edit, fmt.Errorf("%s: %w: it must be one dead letter, as ezq dead show writes it", name, err)
	}
	if len(doc.Payload) == 0 || doc.Version == "" {
		return edit, fmt.Errorf(`%s: it has no "payload", or no "version": it must be one dead letter, as ezq dead show writes it; `+
			`if it was cut, show it again with a larger --payload-limit`, name)
	}
	var payload bytes.Buffer
	if err := json.Compact(&payload, doc.Payload); err != nil {
		return edit, err
	}
	return backend.DeadLetterEdit{Row: doc.Row, Version: doc.Version, Payload: payload.Bytes()}, nil
}

// readFile reads a file of up to so many bytes. "-" is the standard input.
func readFile(ctx context.Context, s *session, file string, most int64) ([]byte, error) {
	in := s.In
	if file != "-" {
		opened, err := os.Open(file) //nolint:gosec // the user of the command names it
		if err != nil {
			return nil, err
		}
		defer func() { _ = opened.Close() }() // nothing was written
		in = opened
	}
	text, err := io.ReadAll(io.LimitReader(&input{ctx: ctx, from: in}, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s: it has more than %d bytes", terminal.Printable(file), most)
	}
	return text, err
}
