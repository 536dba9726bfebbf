package model

import (
	"context"
	"maps"
	"slices"

	"pgregory.net/rapid"

	"github.com/ezq-go/ezq/internal/subscription"
)

func (c *check) extend(t *rapid.T) {
	name := anyTopic(t)
	var tokens, want []subscription.Token
	for _, ticket := range c.anyTickets(t, name, 1) {
		tokens = append(tokens, ticket.token)
		if c.queues[name].valid(ticket) {
			ticket.message.visible = false
		} else {
			want = append(want, ticket.token)
		}
	}
	missed, err := c.subject.Store(name).Extend(context.Background(), tokens, hour)
	got := slices.DeleteFunc(slices.Clone(tokens), func(token subscription.Token) bool {
		return !slices.Contains(missed.Lost, token) && !slices.Contains(missed.Gone, token)
	})
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("extending %v has failed for %v, and should for %v; %v", tokens, got, want, err)
	}
}

func (c *check) expire(t *rapid.T) {
	name := anyTopic(t)
	q := c.queues[name]
	var hidden []string
	for _, uuid := range slices.Sorted(maps.Keys(q.messages)) {
		if !q.messages[uuid].visible {
			hidden = append(hidden, uuid)
		}
	}
	if len(hidden) == 0 {
		t.Skip("every message is visible")
	}
	uuid := rapid.SampledFrom(hidden).Draw(t, "message")
	c.subject.Expire(name, uuid)
	q.setVisible(q.messages[uuid], true)
}

func (c *check) purge(t *rapid.T) {
	name := anyTopic(t)
	got, want := c.subject.Purge(name), len(c.queues[name].messages)
	if got != want {
		t.Fatalf("purged %d messages of %s, not %d", got, name, want)
	}
	c.queues[name].messages = map[string]*stored{}
}

func (c *check) redrive(t *rapid.T) {
	limit := rapid.IntRange(1, 3).Draw(t, "limit")
	got, want := c.subject.Redrive(limit), c.queues[topic].redrive(c.queues[deadTopic], limit)
	if got != want {
		t.Fatalf("moved %d dead letters, not %d", got, want)
	}
}
