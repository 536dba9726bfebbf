package model

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"pgregory.net/rapid"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// The topics of a check.
const (
	topic     = "t"
	deadTopic = "t_dead"
)

// hour is longer than any check takes.
const hour = time.Hour

// Subject is two empty queues, of the topics "t" and "t_dead", to be checked.
type Subject struct {
	Publisher message.Publisher

	// Store returns the store of a topic, always the same.
	Store func(topic string) subscription.Store

	// EndLease lets the lease, or the delay, of the message of that UUID end now.
	EndLease func(topic, uuid string)

	// Purge removes all messages of the topic, and returns how many. If it is nil,
	// it is not checked.
	Purge func(topic string) int

	// Redrive moves up to limit messages from "t_dead" to "t", and returns how many.
	// If it is nil, it is not checked.
	Redrive func(limit int) int
}

// Check does something random to subject, again and again, and fails t as soon as
// it differs from the model.
func Check(t *rapid.T, subject Subject) {
	c := &check{
		subject: subject,
		queues:  map[string]*queue{topic: newQueue(), deadTopic: newQueue()},
		tickets: map[string][]ticket{},
	}
	actions := map[string]func(*rapid.T){
		"publish": c.publish, "claim": c.claim, "settle": c.settle, "extend": c.extend, "expire": c.expire,
	}
	if subject.Purge != nil {
		actions["purge"] = c.purge
	}
	if subject.Redrive != nil {
		actions["redrive"] = c.redrive
	}
	t.Repeat(actions)
	c.drain(t)
}

type check struct {
	subject   Subject
	queues    map[string]*queue
	tickets   map[string][]ticket // by topic: all that there ever were
	published int
}

// drawTopic is one of the two, the first one mostly.
func drawTopic(t *rapid.T) string {
	return rapid.SampledFrom([]string{topic, topic, topic, deadTopic}).Draw(t, "topic")
}

func (c *check) publish(t *rapid.T) {
	delayed := rapid.Bool().Draw(t, "delayed")
	var messages []*message.Message
	for range rapid.IntRange(1, 3).Draw(t, "messages") {
		c.published++
		m := stored{
			uuid: fmt.Sprint("m", c.published), payload: fmt.Sprint("payload ", c.published),
			metadata: map[string]string{"n": fmt.Sprint(c.published)},
		}
		msg := message.NewMessage(m.uuid, []byte(m.payload))
		msg.Metadata = maps.Clone(m.metadata)
		if delayed {
			backend.SetDelay(msg, hour)
		}
		messages = append(messages, msg)
		c.queues[topic].add(m, !delayed)
	}
	if err := c.subject.Publisher.Publish(topic, messages...); err != nil {
		t.Fatalf("publish: %v", err)
	}
}

// claim settles some messages and leases some, as subscriptions do in one step.
func (c *check) claim(t *rapid.T) {
	name := drawTopic(t)
	settlements, outcomes := c.settlements(t, name, 0)
	limit := rapid.IntRange(1, 4).Draw(t, "limit")
	deadLetters, others := split(settlements)
	before := c.settleBatch(t, name, deadLetters, subscription.Missed{})
	claim, err := c.subject.Store(name).Claim(context.Background(), others, limit, hour)
	if err != nil {
		t.Fatalf("claim: %v", err)
	}
	claim.Missed.Lost, claim.Missed.Gone = append(claim.Missed.Lost, before.Lost...), append(claim.Missed.Gone, before.Gone...)
	requireMissed(t, claim.Missed, outcomes)
	c.requireClaimed(t, name, claim, limit)
}

// requireClaimed checks that the leases are those of the messages that have been
// visible for longest, in the order of their ids.
func (c *check) requireClaimed(t *rapid.T, name string, claim subscription.Claim, limit int) {
	q := c.queues[name]
	due := q.due()
	due = due[:min(limit, len(due))]
	if got, want := uuids(claim.Leases), wanted(due); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
		t.Fatalf("claimed %v of %s, not %v", got, name, want)
	}
	if !slices.IsSortedFunc(claim.Leases, func(a, b subscription.Lease) int { return int(a.ID - b.ID) }) {
		t.Fatalf("claimed %v in the wrong order", uuids(claim.Leases))
	}
	for _, lease := range claim.Leases {
		m := q.messages[lease.Message.UUID]
		m.number++
		m.visible, m.token = false, lease.Token
		c.tickets[name] = append(c.tickets[name], ticket{message: m, token: lease.Token})
		if problem := m.differs(lease); problem != "" {
			t.Fatalf("claimed %s of %s: %s", m.uuid, name, problem)
		}
	}
	if len(claim.Leases) < limit && (claim.Next < 0) != (len(q.messages) == 0) {
		t.Fatalf("the next message comes after %v, and there are %d", claim.Next, len(q.messages))
	}
}

func (c *check) settle(t *rapid.T) {
	name := drawTopic(t)
	settlements, outcomes := c.settlements(t, name, 1)
	deadLetters, others := split(settlements)
	requireMissed(t, c.settleBatch(t, name, deadLetters, c.settleBatch(t, name, others, subscription.Missed{})), outcomes)
}

// settleBatch settles, and returns what was missed, after what was before.
func (c *check) settleBatch(t *rapid.T, name string, settlements []subscription.Settlement, before subscription.Missed) subscription.Missed {
	if len(settlements) == 0 {
		return before
	}
	missed, err := c.subject.Store(name).Settle(context.Background(), settlements)
	if err != nil {
		t.Fatalf("settle: %v", err)
	}
	missed.Lost, missed.Gone = append(missed.Lost, before.Lost...), append(missed.Gone, before.Gone...)
	return missed
}

// split returns the dead letters, which go to a store by themselves, and the others.
func split(settlements []subscription.Settlement) (deadLetters, others []subscription.Settlement) {
	for _, s := range settlements {
		if s.Action == subscription.DeadLetter {
			deadLetters = append(deadLetters, s)
		} else {
			others = append(others, s)
		}
	}
	return deadLetters, others
}

// settlements makes up settlements under leases of any age, and returns what should
// become of them. Several that are nacked, or dead-lettered, together become visible in no
// particular order, so there is one of those at most.
func (c *check) settlements(t *rapid.T, name string, least int) (settlements []subscription.Settlement, outcomes map[subscription.Token]outcome) {
	outcomes = map[subscription.Token]outcome{}
	actions := []subscription.Action{subscription.Ack, subscription.Nack, subscription.Release}
	if name == topic {
		actions = append(actions, subscription.DeadLetter)
	}
	one := false
	for _, ticket := range c.drawTickets(t, name, least) {
		action := rapid.SampledFrom(actions).Draw(t, "action")
		if action == subscription.Nack || action == subscription.DeadLetter {
			if one {
				action = subscription.Ack
			}
			one = true
		}
		delay := rapid.SampledFrom([]time.Duration{0, hour}).Draw(t, "delay")
		s := subscription.Settlement{
			Token: ticket.token, Action: action, UUID: ticket.message.uuid,
			Disposition: dispositionOf(action, rapid.IntRange(0, 3).Draw(t, "failures"), delay),
		}
		settlements = append(settlements, s)
		outcomes[s.Token] = c.queues[name].settle(ticket, s, c.queues[deadTopic])
	}
	return settlements, outcomes
}

// drawTickets returns some of those that there are, valid or not, and one for a
// message at most.
func (c *check) drawTickets(t *rapid.T, name string, least int) []ticket {
	all := c.tickets[name]
	if len(all) < least {
		t.Skip("nothing was ever leased")
	}
	if len(all) == 0 {
		return nil
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(all), least, 3, func(t ticket) int64 { return t.token.ID }).Draw(t, "tickets")
}

// requireMissed checks that the store reports every settlement that has changed
// nothing, and why, and of no other.
func requireMissed(t *rapid.T, missed subscription.Missed, outcomes map[subscription.Token]outcome) {
	reported := map[subscription.Token]outcome{}
	for _, token := range missed.Lost {
		reported[token] = lost
	}
	for _, token := range missed.Gone {
		reported[token] = gone
	}
	for token, want := range outcomes {
		if got, ok := reported[token]; ok != (want != done) || ok && got != want {
			t.Fatalf("settling under %v was reported as %q, and should be %q", token, got, want)
		}
		delete(reported, token)
	}
	if len(reported) > 0 {
		t.Fatalf("reported %v, which was not settled", reported)
	}
}

func (c *check) extend(t *rapid.T) {
	name := drawTopic(t)
	var tokens, want []subscription.Token
	for _, ticket := range c.drawTickets(t, name, 1) {
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
	name := drawTopic(t)
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
	c.subject.EndLease(name, uuid)
	q.setVisible(q.messages[uuid], true)
}

func (c *check) purge(t *rapid.T) {
	name := drawTopic(t)
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

// drain checks that all visible messages, and no others, can be claimed in the
// end.
func (c *check) drain(t *rapid.T) {
	for _, name := range []string{topic, deadTopic} {
		limit := len(c.queues[name].messages) + 1
		claim, err := c.subject.Store(name).Claim(context.Background(), nil, limit, hour)
		if err != nil {
			t.Fatalf("claim: %v", err)
		}
		c.requireClaimed(t, name, claim, limit)
	}
}

func uuids(leases []subscription.Lease) (uuids []string) {
	for _, lease := range leases {
		uuids = append(uuids, lease.Message.UUID)
	}
	return uuids
}

func wanted(messages []*stored) (uuids []string) {
	for _, m := range messages {
		uuids = append(uuids, m.uuid)
	}
	slices.Sort(uuids)
	return uuids
}
