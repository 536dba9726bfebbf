package main

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/ezq-go/ezq/backend/pgmq"
)

func unreadable(err error) string { return "cannot be read: " + plain(err.Error()) }

// line says of a dead letter what it says itself.
func line(letter pgmq.DeadLetter) string {
	if errors.Is(letter.Err, pgmq.ErrStrays) {
		return fmt.Sprintf("%d  %s  does not say where it came from: no dead letter", letter.ID, letter.At.UTC().Format(time.DateTime))
	}
	if letter.Err != nil {
		return fmt.Sprintf("%d  %s", letter.ID, unreadable(letter.Err))
	}
	return fmt.Sprintf("%d  %s  %s: %s, after %s: %s", letter.ID, letter.At.UTC().Format(time.DateTime),
		source(letter.Topic, letter.Group), printable(cmp.Or(letter.Handler, letter.Event, "no event")), failures(letter.Failures), printable(letter.Reason))
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
