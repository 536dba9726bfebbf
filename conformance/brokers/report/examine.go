package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/ezq-go/ezq/conformance"
	"github.com/ezq-go/ezq/conformance/brokers"
)

// examineAll examines a few backends at a time: cases mostly wait.
func examineAll(ctx context.Context, wanted func(brokers.Backend) bool) ([]finding, error) {
	var all []brokers.Backend
	for _, b := range brokers.All() {
		if wanted(b) {
			all = append(all, b)
		}
	}
	findings, errs := make([]finding, len(all)), make([]error, len(all))
	slots := make(chan struct{}, 4)
	var running sync.WaitGroup
	for i, b := range all {
		running.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			start := time.Now()
			var err error
			if findings[i], err = examineApart(ctx, b); err != nil {
				errs[i] = fmt.Errorf("%s: %w", b.Title(), err)
			}
			log.Printf("%s: done after %v", b.Title(), time.Since(start).Round(time.Second))
		})
	}
	running.Wait()
	return findings, errors.Join(errs...)
}

// examineApart examines a backend in a process of its own, since some of them end it with
// a panic in a goroutine of theirs. That is tried again, and reported.
func examineApart(ctx context.Context, b brokers.Backend) (found finding, err error) {
	program, err := os.Executable()
	if err != nil {
		return found, err
	}
	crash := ""
	for range 5 {
		var stdout, stderr bytes.Buffer
		command := exec.CommandContext(ctx, program, "-examine", b.Title())
		command.Stdout, command.Stderr = &stdout, &stderr
		if err = command.Run(); err == nil {
			err = json.Unmarshal(stdout.Bytes(), &found)
			found.Crash = crash
			return found, err
		}
		if crash = panicIn(stderr.String()); crash == "" || b.Ours {
			return found, fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
		}
	}
	return found, fmt.Errorf("each of several processes has ended with the %s", crash)
}

// panicIn returns the panic that has ended a process, and its place.
func panicIn(stderr string) string {
	_, trace, found := strings.Cut(stderr, "panic: ")
	if !found {
		return ""
	}
	reason, rest, _ := strings.Cut(trace, "\n")
	for line := range strings.Lines(rest) {
		if function, _, called := strings.Cut(line, "({"); called {
			return "panic: " + reason + ", in " + function
		}
	}
	return "panic: " + reason
}

// examineOne is what the process does.
func examineOne(ctx context.Context, title string) error {
	for _, b := range brokers.All() {
		if b.Title() != title {
			continue
		}
		found, err := examine(ctx, b)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(found)
	}
	return fmt.Errorf("there is no backend %q", title)
}

func examine(ctx context.Context, b brokers.Backend) (finding, error) {
	found := finding{Backend: b.Name, Version: b.Version(), Mode: b.Mode, Ours: b.Ours}
	open, stop, err := b.Start(ctx, brokers.FromEnvironment())
	if absent, ok := errors.AsType[*brokers.MissingError](err); ok {
		found.Missing = absent.What
		return found, nil
	}
	if err != nil {
		return found, err
	}
	found.Results = conformance.Check(ctx, open, b.Promises, b.Options()...)
	return found, stop()
}
