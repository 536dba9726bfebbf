package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/ezq-go/ezq/backend/pgmq"
)

func (c command) dead(ctx context.Context, queue *pgmq.Queue, out io.Writer) error {
	letters, err := queue.DeadLetters(ctx, c.topic, c.most)
	if err != nil {
		return c.explained(err)
	}
	for _, letter := range letters {
		_, _ = fmt.Fprintln(out, line(letter))
		if c.payload {
			_, _ = fmt.Fprintf(out, "    %s\n", printable(string(letter.Payload)))
		}
	}
	left, err := c.left(ctx, queue)
	if err == nil {
		_, _ = fmt.Fprintf(out, "shown: %d of %s in %s\n", len(letters), left, c.topic)
	}
	return err
}

// line says of a dead letter what it says itself.
func line(letter pgmq.DeadLetter) string {
	if letter.Topic == "" {
		return fmt.Sprintf("%d  %s  does not say where it came from: no dead letter", letter.ID, letter.At.UTC().Format(time.DateTime))
	}
	from := printable(letter.Topic)
	if letter.Group != "" {
		from += " (group " + printable(letter.Group) + ")"
	}
	return fmt.Sprintf("%d  %s  %s: %s, after %d failures: %s", letter.ID, letter.At.UTC().Format(time.DateTime),
		from, printable(cmp.Or(letter.Handler, eventOf(letter), "no event")), letter.Failures, printable(letter.Reason))
}

// eventOf returns the name of the event in a dead letter that no handler has given up.
func eventOf(letter pgmq.DeadLetter) string {
	var event struct {
		Type string `json:"_type"`
	}
	_ = json.Unmarshal(letter.Payload, &event) // what is no event has no name
	return cmp.Or(event.Type, letter.Metadata.Get("name"))
}

// printable keeps what a stranger may have written from changing the terminal.
func printable(text string) string {
	if strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return text
	}
	return strconv.Quote(text)
}

func (c command) redrive(ctx context.Context, queue *pgmq.Queue, out io.Writer) error {
	if c.all {
		c.most = math.MaxInt
	}
	moved, err := queue.Redrive(ctx, c.topic, c.most)
	if moved > 0 || err == nil {
		_, _ = fmt.Fprintf(out, "moved back: %d\n", moved)
	}
	if err != nil {
		return c.explained(err)
	}
	left, err := c.left(ctx, queue)
	if err == nil && left != "0" {
		_, _ = fmt.Fprintf(out, "left in %s: %s; if the others succeed now, move these with -all\n", c.topic, left)
	}
	return err
}

func (c command) purge(ctx context.Context, queue *pgmq.Queue, out io.Writer) error {
	oldest, err := queue.DeadLetters(ctx, c.topic, 1)
	if err != nil {
		return c.explained(err)
	}
	if len(oldest) > 0 && oldest[0].Topic == "" {
		return fmt.Errorf("message %d in %s does not say where it came from: these are no dead letters, and stay", oldest[0].ID, c.topic)
	}
	if !c.yes {
		left, err := c.left(ctx, queue)
		if err == nil {
			err = fmt.Errorf("%s has %s dead letters, which would be gone for good: add -yes", c.topic, left)
		}
		return err
	}
	deleted, err := queue.PurgeDeadLetters(ctx, c.topic)
	_, _ = fmt.Fprintf(out, "deleted: %d\n", deleted)
	return c.explained(err)
}

func (c command) left(ctx context.Context, queue *pgmq.Queue) (string, error) {
	found, err := queue.Metrics(ctx, c.topic)
	return count(found.Visible+found.Invisible, found.VisibleCapped || found.InvisibleCapped), err
}

// explained says what is meant by a queue that is not there: nobody has to create it.
func (c command) explained(err error) error {
	if errors.Is(err, pgmq.ErrQueueNotFound) {
		return fmt.Errorf("there are no dead letters: the queue of %s has not been created; %q shows those that have",
			printable(c.topic), "ezq-pgmq queues")
	}
	return err
}
