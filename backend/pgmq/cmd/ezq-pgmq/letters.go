package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/ezq-go/ezq/backend/pgmq"
)

func (c command) dead(ctx context.Context, queue *pgmq.Queue, out io.Writer) error {
	letters, err := queue.DeadLetterHeads(ctx, c.topic, c.most)
	if err != nil {
		return c.explained(err)
	}
	for _, letter := range letters {
		_, _ = fmt.Fprintln(out, line(letter))
		if c.payload && letter.Err == nil {
			if err := c.payloadOf(ctx, queue, letter.ID, out); err != nil {
				return err
			}
		}
	}
	left, err := c.left(ctx, queue)
	if err == nil {
		_, _ = fmt.Fprintf(out, "shown: %d of %s in %s\n", len(letters), left, printable(c.topic))
	}
	return err
}

// payloadOf shows the payload of a letter. Of all that are shown, one is in memory.
func (c command) payloadOf(ctx context.Context, queue *pgmq.Queue, id int64, out io.Writer) error {
	letter, err := queue.ReadDeadLetter(ctx, c.topic, id)
	text := printable(string(letter.Payload))
	switch {
	case ctx.Err() != nil:
		return err
	case err != nil:
		text = unreadable(err)
	}
	_, err = fmt.Fprintf(out, "    %s\n", text)
	return err
}

func unreadable(err error) string { return "cannot be read: " + plain(err.Error()) }

// line says of a dead letter what it says itself.
func line(letter pgmq.DeadLetter) string {
	if letter.Err != nil {
		return fmt.Sprintf("%d  %s", letter.ID, unreadable(letter.Err))
	}
	if letter.Topic == "" {
		return fmt.Sprintf("%d  %s  does not say where it came from: no dead letter", letter.ID, letter.At.UTC().Format(time.DateTime))
	}
	return fmt.Sprintf("%d  %s  %s: %s, after %d failures: %s", letter.ID, letter.At.UTC().Format(time.DateTime),
		source(letter.Topic, letter.Group), printable(cmp.Or(letter.Handler, letter.Event, "no event")), letter.Failures, printable(letter.Reason))
}

// source names a topic, and a group of its consumers.
func source(topic, group string) string {
	if group == "" {
		return printable(topic)
	}
	return printable(topic) + " (group " + printable(group) + ")"
}

// printable keeps what a stranger may have written from changing the terminal.
func printable(text string) string {
	if strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return text
	}
	return strconv.Quote(text)
}

// plain is for text that is to stay as it is, apart from what changes the terminal.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.TrimSpace(text))
}

func (c command) redrive(ctx context.Context, queue *pgmq.Queue, out io.Writer) error {
	origins, err := queue.Origins(ctx, c.topic, c.from...)
	if err != nil {
		return c.explained(err)
	}
	for _, origin := range origins {
		_, _ = fmt.Fprintln(out, c.plan(origin))
	}
	switch {
	case c.show && len(origins) == 0:
		return c.nothing(ctx, queue, out)
	case c.show:
		return nil
	}
	if c.all {
		c.most = math.MaxInt
	}
	moved, err := queue.Redrive(ctx, c.topic, c.most, c.from...)
	_, _ = fmt.Fprintf(out, "moved back: %d\n", moved)
	if err != nil {
		return c.aboutStrays(err) // a queue that is not there is one of those that letters go to
	}
	left, err := c.left(ctx, queue)
	if err == nil && left != "0" {
		_, _ = fmt.Fprintf(out, "left in %s: %s; if the others succeed now, move these with -all\n", printable(c.topic), left)
	}
	return err
}

func (c command) nothing(ctx context.Context, queue *pgmq.Queue, out io.Writer) error {
	left, err := c.left(ctx, queue)
	if err != nil {
		return c.explained(err)
	}
	later := ""
	if left != "0" {
		later = ": " + left + " are leased or delayed"
	}
	_, err = fmt.Fprintf(out, "there is nothing in %s that could be moved now%s\n", printable(c.topic), later)
	return err
}

// plan says what redrive does with the letters of an origin.
func (c command) plan(o pgmq.Origin) string {
	from := source(cmp.Or(o.Topic, "no topic, or one of many others"), o.Group)
	letters := count(o.Letters, o.LettersCapped)
	switch {
	case o.Missing && o.Queue == "":
		return fmt.Sprintf("  %s from %s stay until the topic has a queue: they do not say which", letters, from)
	case o.Missing:
		return fmt.Sprintf("  %s from %s stay until there is the queue %s, which does not exist", letters, from, printable(o.Queue))
	case !o.Stray && o.Queue == "":
		return fmt.Sprintf("  %s from %s go to all queues of the topic: they do not say which", letters, from)
	case !o.Stray:
		return fmt.Sprintf("  %s from %s go to the queue %s", letters, from, printable(o.Queue))
	case o.Topic == "":
		return fmt.Sprintf("  %s from %s stay", letters, from)
	case slices.Contains(c.from, o.Topic) || len(c.from) == 0 && o.Topic+suffix == c.topic:
		return fmt.Sprintf("  %s from %s stay: they name the queue %s, which is not its own or its groups'", letters, from, printable(o.Queue))
	}
	return fmt.Sprintf("  %s from %s stay: if they may go there, add -from %s", letters, from, shellWord(o.Topic))
}

func (c command) purge(ctx context.Context, queue *pgmq.Queue, out io.Writer) error {
	if !c.yes {
		left, err := c.left(ctx, queue)
		if err != nil {
			return c.explained(err)
		}
		doomed, after := "of which the dead letters of "+c.whose(), ""
		if c.strays {
			doomed = "and all of them"
			after = c.caution()
		}
		return fmt.Errorf("%s has %s messages, %s would be gone for good%s: add -yes", printable(c.topic), left, doomed, after)
	}
	deleted, err := 0, error(nil)
	if c.strays {
		deleted, err = queue.PurgeQueue(ctx, c.topic)
	} else {
		deleted, err = queue.PurgeDeadLetters(ctx, c.topic, c.from...)
	}
	_, _ = fmt.Fprintf(out, "deleted: %d\n", deleted)
	return c.explained(err)
}

// whose names the topics whose letters are meant.
func (c command) whose() string {
	topics := c.from
	if len(topics) == 0 {
		topics = []string{strings.TrimSuffix(c.topic, suffix)}
	}
	names := make([]string, len(topics))
	for i, topic := range topics {
		names[i] = printable(topic)
	}
	return strings.Join(names, " or ")
}

func (c command) left(ctx context.Context, queue *pgmq.Queue) (string, error) {
	found, err := queue.Metrics(ctx, c.topic)
	return count(found.Visible+found.Invisible, found.VisibleCapped || found.InvisibleCapped), err
}

// explained says what is meant by a queue of dead letters that is not there, which need not be
// created, and what can be done here about strays.
func (c command) explained(err error) error {
	if errors.Is(err, pgmq.ErrQueueNotFound) {
		return fmt.Errorf("there are no dead letters: the queue of %s has not been created; %q shows those that have",
			printable(c.topic), "ezq-pgmq queues")
	}
	return c.aboutStrays(err)
}

func (c command) aboutStrays(err error) error {
	strays, ok := errors.AsType[*pgmq.Error](err)
	if !ok || !errors.Is(err, pgmq.ErrStrays) {
		return err
	}
	told := *strays
	told.Remedy = "-show shows what they say, and -from takes those of another topic"
	if c.name == "purge-dead" {
		told.Remedy = fmt.Sprintf("look at them with ezq-pgmq dead -in %s; delete those of another topic with -from, and all that is there with -strays%s",
			shellWord(c.topic), c.caution())
	}
	return &told
}
