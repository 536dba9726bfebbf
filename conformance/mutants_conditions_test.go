package conformance_test

import (
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/conformance"
)

// conditionally returns the flaw of doing something else with messages that are published on a
// condition, of which f gets the first.
func conditionally(f func(p *process, c *backend.PublishCondition, topic string, msgs []*message.Message) error) fault {
	return fault{publish: func(p *process, topic string, msgs []*message.Message) error {
		for _, msg := range msgs {
			if c := backend.PublishConditionFromContext(msg.Context()); c != nil {
				return f(p, c, topic, msgs)
			}
		}
		return p.store(topic, msgs...)
	}}
}

// storeOn stores messages on other conditions, which change makes of theirs, and passes on what is reported.
func (p *process) storeOn(topic string, msgs []*message.Message, change func(c, other *backend.PublishCondition)) error {
	copies := make([]*message.Message, len(msgs))
	for i, msg := range msgs {
		copies[i] = msg.CopyWithContext()
		if c := backend.PublishConditionFromContext(msg.Context()); c != nil {
			other := &backend.PublishCondition{Once: c.Once, UniqueKey: c.UniqueKey, Replace: c.Replace, Debounce: c.Debounce}
			change(c, other)
			copies[i].SetContext(backend.WithPublishCondition(msg.Context(), other))
		}
	}
	err := p.store(topic, copies...)
	for i, msg := range msgs {
		if result, ok := backend.PublishConditionFromContext(copies[i].Context()).Result(); ok {
			backend.PublishConditionFromContext(msg.Context()).Report(result)
		}
	}
	return err
}

// storeAnyway stores messages without their conditions, and reports an outcome.
func (p *process) storeAnyway(topic string, msgs []*message.Message, outcome backend.PublishOutcome) error {
	copies := make([]*message.Message, len(msgs))
	for i, msg := range msgs {
		copies[i] = msg.Copy()
	}
	reportAll(msgs, outcome)
	return p.store(topic, copies...)
}

func reportAll(msgs []*message.Message, outcome backend.PublishOutcome) {
	for _, msg := range msgs {
		if c := backend.PublishConditionFromContext(msg.Context()); c != nil {
			c.Report(backend.PublishResult{Outcome: outcome, ID: msg.UUID})
		}
	}
}

// onceOnly returns the flaw of doing something else with messages that are to be stored once.
func onceOnly(f func(p *process, topic string, msgs []*message.Message) error) fault {
	return conditionally(func(p *process, c *backend.PublishCondition, topic string, msgs []*message.Message) error {
		if !c.Once || c.UniqueKey != "" {
			return p.store(topic, msgs...)
		}
		return f(p, topic, msgs)
	})
}

// changed returns the flaw of taking a condition for another one.
func changed(change func(c, other *backend.PublishCondition)) fault {
	return conditionally(func(p *process, _ *backend.PublishCondition, topic string, msgs []*message.Message) error {
		return p.storeOn(topic, msgs, change)
	})
}

func conditionMutants() []mutant {
	const century = 100 * 365 * 24 * time.Hour
	return []mutant{
		{
			name:     "conditions are ignored",
			breaks:   "what is published on a condition is stored in any case",
			killedBy: []string{"conditions/an ID is stored once", "conditions/a key is unique while its message is pending", "conditions/a condition that cannot be is refused"},
			fault: conditionally(func(p *process, _ *backend.PublishCondition, topic string, msgs []*message.Message) error {
				return p.storeAnyway(topic, msgs, backend.PublishStored)
			}),
		},
		{
			name:     "conditions are not reported",
			breaks:   "a publisher is not told whether its message is stored",
			killedBy: []string{"conditions/an ID is stored once", "conditions/what is being handled is not replaced"},
			fault: conditionally(func(p *process, c *backend.PublishCondition, topic string, msgs []*message.Message) error {
				copies := make([]*message.Message, len(msgs))
				for i, msg := range msgs {
					copies[i] = msg.Copy()
					copies[i].SetContext(backend.WithPublishCondition(msg.Context(), &backend.PublishCondition{Once: c.Once, UniqueKey: c.UniqueKey, Replace: c.Replace, Debounce: c.Debounce}))
				}
				return p.store(topic, copies...)
			}),
		},
		{
			name:     "an ID is remembered after its message is stored",
			breaks:   "two publishers of one ID at once both store their messages",
			killedBy: []string{"conditions/an ID is stored once"},
			fault: onceOnly(func(p *process, topic string, msgs []*message.Message) error {
				known := topic + " has " + msgs[0].UUID
				if p.count(known) > 0 {
					reportAll(msgs, backend.PublishExisted)
					return nil
				}
				stall(time.Millisecond)
				p.increment(known)
				return p.storeAnyway(topic, msgs, backend.PublishStored)
			}),
		},
		{
			name:     "an ID is forgotten with its message",
			breaks:   "after the ack of a message, its ID is stored again",
			killedBy: []string{"conditions/an ID is stored once"},
			fault: onceOnly(func(p *process, topic string, msgs []*message.Message) error {
				if len(msgs) > 1 {
					return p.store(topic, msgs...)
				}
				return p.storeOn(topic, msgs, func(_, other *backend.PublishCondition) { other.Once, other.UniqueKey = false, msgs[0].UUID })
			}),
		},
		{
			name:     "an ID counts in every topic",
			breaks:   "an ID that is known in one topic is not stored in another one",
			killedBy: []string{"conditions/an ID counts in its topic"},
			fault: onceOnly(func(p *process, topic string, msgs []*message.Message) error {
				if len(msgs) > 1 {
					return p.store(topic, msgs...)
				}
				p.increment(msgs[0].UUID)
				if p.count(msgs[0].UUID) > 1 {
					reportAll(msgs, backend.PublishExisted)
					return nil
				}
				return p.store(topic, msgs...)
			}),
		},
		{
			name:     "a batch with a known ID is not stored",
			breaks:   "of a batch with a known ID, the new messages are not stored either",
			killedBy: []string{"conditions/a batch stores its new IDs"},
			fault: onceOnly(func(p *process, topic string, msgs []*message.Message) error {
				if len(msgs) > 1 {
					reportAll(msgs, backend.PublishExisted)
					return nil
				}
				return p.store(topic, msgs...)
			}),
		},
		{
			name:     "a unique message replaces what waits",
			breaks:   "a message with a key takes the place of the one that is there",
			killedBy: []string{"conditions/a key is unique while its message is pending"},
			fault:    changed(func(_, other *backend.PublishCondition) { other.Replace = other.UniqueKey != "" && !other.Once }),
		},
		{
			name:     "a key is never free",
			breaks:   "after the message with a key is done, no other one is stored",
			killedBy: []string{"conditions/a key is free when its message is done", "conditions/a key is free after a dead letter"},
			fault: conditionally(func(p *process, c *backend.PublishCondition, topic string, msgs []*message.Message) error {
				if c.UniqueKey == "" || c.Replace {
					return p.store(topic, msgs...)
				}
				key := topic + " has the key " + c.UniqueKey
				if p.count(key) > 0 {
					reportAll(msgs, backend.PublishExisted)
					return nil
				}
				p.increment(key)
				return p.store(topic, msgs...)
			}),
		},
		{
			name:     "an expired message keeps its key",
			breaks:   "while a message waits that has expired, no other one with its key is stored",
			killedBy: []string{"conditions/a key is free when its message has expired"},
			fault: conditionally(func(p *process, _ *backend.PublishCondition, topic string, msgs []*message.Message) error {
				copies := make([]*message.Message, len(msgs))
				for i, msg := range msgs {
					copies[i] = msg.CopyWithContext()
					delete(copies[i].Metadata, backend.ExpiresAt)
				}
				return p.store(topic, copies...)
			}),
		},
		{
			name:     "what does not say when it expires has expired",
			breaks:   "a message whose time cannot be read has no key",
			killedBy: []string{"conditions/a key is free when its message has expired"},
			fault: conditionally(func(p *process, _ *backend.PublishCondition, topic string, msgs []*message.Message) error {
				if _, err := time.Parse(time.RFC3339, msgs[0].Metadata[backend.ExpiresAt]); err == nil || msgs[0].Metadata[backend.ExpiresAt] == "" {
					return p.store(topic, msgs...)
				}
				return p.storeAnyway(topic, msgs, backend.PublishStored)
			}),
		},
		{
			name:     "what replaces a message has a time of its own",
			breaks:   "a message that replaces another one is delivered when it would be by itself",
			killedBy: []string{"conditions/what waits is replaced"},
			fault: changed(func(_, other *backend.PublishCondition) {
				if other.Replace && other.UniqueKey != "" {
					other.Debounce = century
				}
			}),
		},
		{
			name:     "what is replaced is delivered too",
			breaks:   "a message that replaces another one is stored beside it",
			killedBy: []string{"conditions/what waits is replaced"},
			fault: conditionally(func(p *process, c *backend.PublishCondition, topic string, msgs []*message.Message) error {
				if !c.Replace || c.UniqueKey == "" {
					return p.store(topic, msgs...)
				}
				return p.storeAnyway(topic, msgs, backend.PublishReplaced)
			}),
		},
		{
			name:     "what waits for years is replaced",
			breaks:   "a message that replaces another one is due when that is, however late",
			killedBy: []string{"conditions/what waits for years is not replaced"},
			fault: conditionally(func(p *process, c *backend.PublishCondition, topic string, msgs []*message.Message) error {
				late := topic + " has a late message of " + c.UniqueKey
				d, _, err := backend.DelayOf(msgs[0])
				switch {
				case err == nil && d > backend.MaxReplaceWait:
					p.increment(late)
				case c.Replace && p.count(late) > 0:
					reportAll(msgs, backend.PublishReplaced)
					return nil
				}
				return p.store(topic, msgs...)
			}),
		},
		{
			name:     "nothing replaces what is being handled",
			breaks:   "a message that would replace one that is being handled is not stored",
			killedBy: []string{"conditions/what is being handled is not replaced"},
			fault: changed(func(_, other *backend.PublishCondition) {
				if other.UniqueKey != "" {
					other.Replace, other.Debounce = false, 0
				}
			}),
		},
		{
			name:     "a debounced message keeps its time",
			breaks:   "with Debounce, the clock does not begin again",
			killedBy: []string{"conditions/a debounced message waits for the last one"},
			fault:    changed(func(_, other *backend.PublishCondition) { other.Debounce = 0 }),
		},
		{
			name:     "a debounced message waits for ever",
			breaks:   "with Debounce, the clock begins again also after the longest time",
			killedBy: []string{"conditions/a debounced message waits for the last one"},
			fault: changed(func(_, other *backend.PublishCondition) {
				if other.Debounce > 0 {
					other.Debounce = century
				}
			}),
		},
		{
			name:     "what contradicts itself is taken for something",
			breaks:   "a condition that cannot be kept is taken for another one",
			killedBy: []string{"conditions/a condition that cannot be is refused"},
			fault: changed(func(_, other *backend.PublishCondition) {
				if other.Once {
					other.UniqueKey, other.Replace = "", false
				}
			}),
		},
		{
			name:     "a condition outlasts its rollback",
			breaks:   "an ID that was published in a transaction is known, whatever becomes of that",
			killedBy: []string{"conditions/a condition ends with its transaction"},
			fault: fault{begin: func(t *transaction, tx *conformance.Tx) {
				tx.Publisher = publisherFunc(func(topic string, msgs ...*message.Message) error {
					for _, msg := range msgs {
						if c := backend.PublishConditionFromContext(msg.Context()); c != nil && c.Once {
							known := topic + " has " + msg.UUID
							t.increment(known)
							if t.count(known) > 1 {
								return nil
							}
						}
					}
					return t.Publish(topic, msgs...)
				})
			}},
		},
	}
}
