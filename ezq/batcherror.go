package ezq

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// BatchError fails some events of a batch, and no others. Its keys are their
// places in the batch, from 0; each may have another verdict. An empty one fails
// none:
//
//	failed := ezq.BatchError{}
//	for i, e := range events {
//		if err := charge(ctx, e); err != nil {
//			failed[i] = err
//		}
//	}
//	return failed
//
// It is found in wrapped errors, and errors.Join makes one of several. A place that
// the batch does not have is a mistake that fails all of it.
type BatchError map[int]error

// Failed returns a [BatchError] that fails one event. Failed(i, nil) is nil.
func Failed(i int, err error) error {
	if err == nil {
		return nil
	}
	return BatchError{i: err}
}

func (e BatchError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "ezq: %d of the batch failed", len(e))
	for _, i := range slices.Sorted(maps.Keys(e)) {
		fmt.Fprintf(&text, "; event %d: %v", i, e[i])
	}
	return text.String()
}

// Unwrap returns the errors of the events in their order.
func (e BatchError) Unwrap() []error {
	var errs []error
	for _, i := range slices.Sorted(maps.Keys(e)) {
		if e[i] != nil {
			errs = append(errs, e[i])
		}
	}
	return errs
}

// outcomes says for each of n events what err means for it.
func outcomes(n int, err error) []error {
	all := make([]error, n)
	if err == nil {
		return all
	}
	flaw, partial := spread(all, err, func(err error) error { return err })
	if partial && flaw == nil {
		return all
	}
	for i := range all {
		all[i] = err
		if flaw != nil {
			all[i] = flaw
		}
	}
	return all
}

// spread notes what err says about single events. partial is false if it is not
// about single ones. A verdict around a [BatchError] holds for each of its errors.
func spread(all []error, err error, verdict func(error) error) (flaw error, partial bool) {
	switch e := err.(type) { //nolint:errorlint // it is the tree that is walked here
	case BatchError:
		for i, failure := range e {
			if i < 0 || i >= len(all) {
				return fmt.Errorf("ezq: a BatchError names event %d of a batch of %d, so all of them fail: %w", i, len(all), err), true
			}
			if failure != nil {
				all[i] = verdict(failure)
			}
		}
		return nil, true
	case *permanentError:
		return spread(all, e.error, func(err error) error { return verdict(Permanent(err)) })
	case *retryAfterError:
		return spread(all, e.error, func(err error) error { return verdict(RetryAfter(e.delay, err)) })
	case interface{ Unwrap() []error }:
		for _, joined := range e.Unwrap() {
			if flaw, partial = spread(all, joined, verdict); flaw != nil || !partial {
				return flaw, partial
			}
		}
		return nil, partial
	case interface{ Unwrap() error }:
		return spread(all, e.Unwrap(), verdict)
	}
	return nil, false
}
