package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// usageError is about the arguments, and not about what was done: its exit code is 2.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// wrong returns a usageError. A task may return one, before it has done anything.
func wrong(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
}

// asGroup has cmd, which has commands of its own, say so if none of them is named.
func asGroup(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return wrong("missing command: %q lists them", cmd.CommandPath()+" --help")
		}
		return unknownCommand(cmd, args[0])
	}
}

func unknownCommand(cmd *cobra.Command, name string) error {
	suggestion := ""
	if cmd.Name() == "dead" {
		suggestion = fmt.Sprintf(": dead letters of a topic are listed by %q", cmd.CommandPath()+" list "+name)
	}
	if like := cmd.SuggestionsFor(name); len(like) > 0 {
		suggestion = fmt.Sprintf(": did you mean %q?", cmd.CommandPath()+" "+like[0])
	}
	return wrong("unknown command %q%s", name, suggestion)
}

// none is for a command that is about all that there is.
func none() cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return wrong("%s takes no %q", cmd.Name(), args[0])
		}
		return nil
	}
}

// one is for a command that is about one thing, which what names, as in "topic".
func one(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return wrong("%s: missing %s", cmd.Name(), what)
		case slices.Contains(args, ""):
			return wrong("%s: missing %s: the argument is empty", cmd.Name(), what)
		case len(args) > 1:
			return wrong("%s takes one %s, not %q", cmd.Name(), what, args)
		}
		return nil
	}
}

// jsonFlag defines --json.
func jsonFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON")
}

// funcValue is a flag whose value a function reads. Its error says how to write it.
type funcValue struct {
	kind  string // what the help calls the value
	text  string
	reads func(text string) error
}

func (v *funcValue) String() string { return v.text }

func (v *funcValue) Type() string { return v.kind }

func (v *funcValue) Set(text string) error {
	v.text = text
	return v.reads(text)
}

// newDuration is a flag with a length of time that is more than 0.
func newDuration(d *time.Duration) *funcValue {
	return &funcValue{kind: "duration", reads: func(text string) error {
		given, err := time.ParseDuration(strings.TrimSpace(text))
		switch {
		case err != nil:
			return errors.New("write it with its unit, as in 10m or 90s")
		case given <= 0:
			return errors.New("set it to more than 0, as in 10m")
		}
		*d = given
		return nil
	}}
}

// noneOrCommand is none for a command that has commands of its own, too.
func noneOrCommand() cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return nil
	}
}

// jsonLinesFlag defines --json for a list that may be long: each item is a line.
func jsonLinesFlag(cmd *cobra.Command, item string) *bool {
	return cmd.Flags().Bool("json", false, "print JSON, a line for each "+item)
}

// headerFlag defines -H, --header for a header and its value.
func headerFlag(cmd *cobra.Command, name, value *string, usage string) {
	cmd.Flags().VarP(&funcValue{kind: "name=value", reads: func(text string) (err error) {
		*name, *value, err = readHeader(text)
		return err
	}}, "header", "H", usage)
}

func readHeader(text string) (name, value string, err error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return "", "", errors.New("write it with its value, as in tenant=a")
	}
	return name, value, nil
}

// fieldFlag defines --field for the path to a field and its value, which is JSON, or else a text.
func fieldFlag(cmd *cobra.Command, path *string, value *any) {
	cmd.Flags().Var(&funcValue{kind: "path=value", reads: func(text string) error {
		name, written, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return errors.New("write it with its value, as in order.id=7")
		}
		*path, *value = name, written
		if raw := json.RawMessage(written); json.Valid(raw) {
			*value = raw
		}
		return nil
	}}, "field", "a field of the payload, as in order.id=7; 7 is a number and '\"7\"' a text")
}

// checkMax checks --max.
func checkMax(n int) error {
	if n < 1 {
		return wrong("--max is %d: set it to 1 or more", n)
	}
	return nil
}
