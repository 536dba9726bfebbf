package main

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

func unreadable(err error) string { return "cannot be read: " + singleLine(err.Error()) }

// cut says that only the beginning of a payload is shown.
func cut(err error) string {
	text := "its JSON is cut"
	if e, ok := errors.AsType[*pgmq.Error](err); ok && e.Cause != nil {
		text += ": " + singleLine(e.Cause.Error())
	}
	return text + "; -payload-limit sets another one"
}

// formatDeadLetter says of a dead letter what it says itself.
func formatDeadLetter(deadLetter backend.FoundDeadLetter) string {
	if errors.Is(deadLetter.Err, pgmq.ErrStrays) {
		return fmt.Sprintf("%d  %s  not a dead letter: it does not say where it came from", deadLetter.Row, deadLetter.At.UTC().Format(timeFormat))
	}
	if deadLetter.Err != nil {
		return fmt.Sprintf("%d  %s", deadLetter.Row, unreadable(deadLetter.Err))
	}
	return fmt.Sprintf("%d  %s  %s  %s: %s, after %s: %s", deadLetter.Row, deadLetter.At.UTC().Format(timeFormat), printable(deadLetter.ID),
		source(deadLetter.Topic, deadLetter.Group), printable(cmp.Or(deadLetter.Handler, deadLetter.Event, "no event")), failures(deadLetter.Failures), printable(deadLetter.Reason))
}

// source names a topic, and a group of its consumers.
func source(topic, group string) string {
	if group == "" {
		return printable(topic)
	}
	return printable(topic) + " (group " + printable(group) + ")"
}

// printable keeps what an untrusted role may have written from changing the terminal.
func printable(text string) string {
	if strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return text
	}
	return strconv.Quote(text)
}

// singleLine is for text that is to stay as it is, apart from what changes the terminal.
func singleLine(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.TrimSpace(text))
}
