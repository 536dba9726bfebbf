// Command bench lets ezq and its alternatives do the same work, side by side, and tells how they
// did. `make bench` runs it on a PostgreSQL of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"

	"github.com/ezq-go/ezq/bench/report"
	"github.com/ezq-go/ezq/bench/result"
	"github.com/ezq-go/ezq/bench/work"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	full       bool
	rounds     int
	work       string
	contenders string
	out        string
	from       string
	docs       string
	list       bool
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.full, "full", false, "do all work, and more of it")
	flags.IntVar(&o.rounds, "rounds", 0, "how many rounds, if not as many as usual")
	flags.StringVar(&o.work, "work", "", "do only work whose name matches this regular expression")
	flags.StringVar(&o.contenders, "contenders", "", "… by contenders whose name matches this one")
	flags.StringVar(&o.out, "out", "out", "the directory for results.json, tables.md and the plots")
	flags.StringVar(&o.from, "from", "", "measure nothing: use this results.json")
	flags.StringVar(&o.docs, "docs", "", "also write the tables into the documentation of the repository in this directory")
	flags.BoolVar(&o.list, "list", false, "list the work and who does it")
	err = flags.Parse(args)
	return o, err
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	scale := work.Quick()
	if o.full {
		scale = work.Full()
	}
	if o.rounds > 0 {
		scale.Rounds = o.rounds
	}
	works, err := choose(work.All(scale), o)
	if err != nil {
		return err
	}
	if o.list {
		return list(os.Stdout, works)
	}
	measured, err := loadOrMeasure(ctx, o, scale, works)
	if err != nil {
		return err
	}
	if err := report.Write(measured, o.out); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(os.Stdout, "%s\n%s", report.Tables(measured), report.Targets(measured)); err != nil {
		return fmt.Errorf("print the tables: %w", err)
	}
	if o.docs != "" {
		return report.Document(measured, o.docs)
	}
	return nil
}

func choose(all []work.Work, o options) (chosen []work.Work, err error) {
	name, err := regexp.Compile(o.work)
	if err != nil {
		return nil, fmt.Errorf("-work: %w", err)
	}
	contender, err := regexp.Compile(o.contenders)
	if err != nil {
		return nil, fmt.Errorf("-contenders: %w", err)
	}
	for _, w := range all {
		if !name.MatchString(w.Name) || (!o.full && o.work == "" && !w.Quick) {
			continue
		}
		var entrants []work.Entrant
		for _, e := range w.Entrants {
			if contender.MatchString(e.Name) {
				entrants = append(entrants, e)
			}
		}
		if w.Entrants = entrants; len(entrants) > 0 {
			chosen = append(chosen, w)
		}
	}
	if len(chosen) == 0 {
		return nil, errors.New("there is no such work; -list shows what there is")
	}
	return chosen, nil
}

func list(out io.Writer, works []work.Work) error {
	var b strings.Builder
	for _, w := range works {
		fmt.Fprintf(&b, "%s: %s\n", w.Name, w.Title)
		for _, e := range w.Entrants {
			fmt.Fprintln(&b, "   ", e.Name)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func loadOrMeasure(ctx context.Context, o options, scale work.Scale, works []work.Work) (result.Run, error) {
	if o.from != "" {
		return result.Load(o.from)
	}
	url := os.Getenv("EZQ_DATABASE_URL")
	if url == "" {
		return result.Run{}, errors.New("EZQ_DATABASE_URL is not set; run it with: make bench")
	}
	return measure(ctx, url, scale, works)
}
