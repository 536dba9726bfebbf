package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// listDeadLetters shows the dead letters that c selects, or with -count how many there are of each kind.
func listDeadLetters(ctx context.Context, client *pgmq.Client, c command, out io.Writer) error {
	if c.counts {
		return printCounts(ctx, client, c, out)
	}
	letters, truncated := client.DeadLetterHeads(ctx, c.topic, c.selected(c.max))
	if truncated != nil && !errors.As(truncated, new(*backend.TruncatedError)) {
		return c.explainError(truncated)
	}
	unread := 0
	for _, letter := range letters {
		if !printDeadLetter(ctx, client, c, letter, out) {
			unread++
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if c.json {
		return errors.Join(truncated, unreadError(unread))
	}
	left, err := c.remaining(ctx, client)
	if err == nil {
		_, _ = fmt.Fprintf(out, "shown: %d of %s in %s\n", len(letters), left, printable(c.topic))
		err = unreadError(unread)
	}
	if len(letters) == c.max {
		_, _ = fmt.Fprintf(out, "for the next ones, add -after %d\n", letters[len(letters)-1].Row)
	}
	return errors.Join(truncated, err)
}

func unreadError(unread int) error {
	if unread == 0 {
		return nil
	}
	return fmt.Errorf("payloads that cannot be read: %d; the list says why", unread)
}

// printDeadLetter shows a dead letter, and reports whether it could be read as far as it was asked for.
func printDeadLetter(ctx context.Context, client *pgmq.Client, c command, letter backend.FoundDeadLetter, out io.Writer) (ok bool) {
	if c.json {
		return printJSON(ctx, client, c, letter.Row, out)
	}
	_, _ = fmt.Fprintln(out, formatDeadLetter(letter))
	if c.payload && (letter.Err == nil || errors.Is(letter.Err, pgmq.ErrStrays)) {
		return printPayload(ctx, client, c, letter.Row, out)
	}
	return true
}

// printPayload shows the payload of a dead letter, and reports whether it could be read. Of all that are shown, one
// is in memory.
func printPayload(ctx context.Context, client *pgmq.Client, c command, row int64, out io.Writer) (ok bool) {
	letter, err := client.ReadDeadLetter(ctx, c.topic, row, c.limit)
	text := printable(string(letter.Payload))
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil:
		text = unreadable(err)
	case errors.Is(letter.Err, pgmq.ErrTooLarge):
		text += "… " + cut(letter.Err)
	case letter.Payload == nil:
		text = "none: the message is NULL, which another program has written"
	}
	_, _ = fmt.Fprintf(out, "    %s\n", text)
	return err == nil
}

// printJSON shows a dead letter as one JSON document, and reports whether it could be read.
func printJSON(ctx context.Context, client *pgmq.Client, c command, row int64, out io.Writer) (ok bool) {
	letter, err := client.ReadDeadLetter(ctx, c.topic, row, c.limit)
	if err != nil {
		letter = backend.FoundDeadLetter{Row: row, Err: err}
	}
	text, failed := json.MarshalIndent(letter, "", "  ")
	if failed != nil {
		text = fmt.Appendf(nil, `{"row": %d}`, row) // its time has a year that JSON does not have
	}
	_, _ = fmt.Fprintln(out, printableJSON(text))
	return failed == nil && (letter.Err == nil || errors.Is(letter.Err, pgmq.ErrStrays))
}

// printableJSON escapes what JSON leaves as it is, and a terminal may obey.
func printableJSON(text []byte) string {
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			_, _ = fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			_, _ = fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// printCounts shows how many dead letters say the same of themselves.
func printCounts(ctx context.Context, client *pgmq.Client, c command, out io.Writer) error {
	counts, err := client.CountDeadLetters(ctx, c.topic, c.selected(c.max))
	if err != nil && !errors.As(err, new(*backend.TruncatedError)) {
		return c.explainError(err)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "COUNT\tOLDEST\tNEWEST\tTOPIC\tHANDLER\tEVENT\tREASON")
	for _, count := range counts {
		from := orDash(count.Topic)
		if count.Group != "" {
			from = source(count.Topic, count.Group)
		}
		reason := orDash(count.Reason)
		if count.Rest {
			reason = "all others: -max shows more"
		}
		_, _ = fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", count.Letters, count.Oldest.UTC().Format(timeFormat), count.Newest.UTC().Format(timeFormat),
			from, orDash(count.Handler), orDash(count.Event), reason)
	}
	return errors.Join(table.Flush(), err)
}

// countSelected returns how many dead letters c selects.
func countSelected(ctx context.Context, client *pgmq.Client, c command) (n int, err error) {
	chosen := c.selected(0)
	chosen.Topics = c.topics()
	counts, err := client.CountDeadLetters(ctx, c.topic, chosen)
	for _, count := range counts {
		n += count.Letters
	}
	return n, err
}

// editDeadLetter replaces the payload of a dead letter by the one in the file.
func editDeadLetter(ctx context.Context, client *pgmq.Client, c command, out io.Writer) error {
	text, err := os.ReadFile(c.file)
	if err != nil {
		return err
	}
	var doc struct {
		Row     int64           `json:"row"`
		Version string          `json:"version"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("%s: %w: it must be one dead letter, as ezq-pgmq dead -json writes it", printable(c.file), err)
	}
	if len(doc.Payload) == 0 || doc.Version == "" {
		return fmt.Errorf(`%s: it has no "payload", or no "version": it must be one dead letter, as ezq-pgmq dead -json writes it; if it was cut, show it again with a larger -payload-limit`, printable(c.file))
	}
	var payload bytes.Buffer
	if err := json.Compact(&payload, doc.Payload); err != nil {
		return err
	}
	edit := backend.DeadLetterEdit{Row: doc.Row, Version: doc.Version, Payload: payload.Bytes(), By: c.by}
	if err := client.EditDeadLetter(ctx, c.topic, edit); err != nil {
		return c.explainError(err)
	}
	_, _ = fmt.Fprintf(out, "edited: %d; to send it back, run ezq-pgmq redrive -in %s -row %d\n", doc.Row, shellWord(c.topic), doc.Row)
	return nil
}

// parseAge returns the time that was so long ago.
func parseAge(text string) (time.Time, error) {
	age, err := time.ParseDuration(text)
	if err != nil || age <= 0 {
		return time.Time{}, errors.New("write it with its unit, as in 72h or 90m")
	}
	return time.Now().Add(-age), nil
}
