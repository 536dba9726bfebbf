// Package deliverycopy copies what a backend says about a delivery, for code that hands
// over a message in place of another one.
package deliverycopy

import "github.com/ezq-go/ezq/backend"

// Of returns what is known about d, with a disposition of its own.
func Of(d *backend.Delivery) *backend.Delivery {
	return &backend.Delivery{
		Number: d.Number, Failures: d.Failures, Done: d.Done, UnknownSince: d.UnknownSince, PublishedAt: d.PublishedAt, PublishedTo: d.PublishedTo,
		DeadLetters: d.DeadLetters, Progress: d.Progress, Parker: d.Parker, Receipt: d.Receipt,
	}
}
