package conformance_test

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
)

func publishMutants() []mutant {
	return []mutant{
		{
			name:     "the end of a batch is lost",
			breaks:   "the last of several messages in one call is not stored",
			killedBy: []string{"delivery/many arrive"},
			fault: fault{publish: func(p *process, topic string, msgs []*message.Message) error {
				if len(msgs) > 1 {
					msgs = msgs[:len(msgs)-1]
				}
				return p.store(topic, msgs...)
			}},
		},
		{
			name:     "one in a hundred is lost",
			breaks:   "Publish returns no error for a message that is not stored",
			killedBy: []string{"delivery/many arrive"},
			fault: fault{publish: func(p *process, topic string, msgs []*message.Message) error {
				stored := slices.DeleteFunc(slices.Clone(msgs), func(*message.Message) bool { return p.increment("published")%100 == 0 })
				return p.store(topic, stored...)
			}},
		},
		{
			name:     "messages are stored twice",
			breaks:   "a message that was acked comes again",
			killedBy: []string{"delivery/an acked message is gone", "control events/EndEvent stops one router, once"},
			fault: fault{publish: func(p *process, topic string, msgs []*message.Message) error {
				return errors.Join(p.store(topic, msgs...), p.store(topic, msgs...))
			}},
		},
		{
			name:     "a batch is reversed",
			breaks:   "messages of one call arrive in another order",
			killedBy: []string{"ordering/one in flight is in order", "control events/EndEvent ends after what came before it"},
			fault: fault{publish: func(p *process, topic string, msgs []*message.Message) error {
				msgs = slices.Clone(msgs)
				slices.Reverse(msgs)
				return p.store(topic, msgs...)
			}},
		},
		{
			name:     "nothing is an error",
			breaks:   "Publish without messages returns an error",
			killedBy: []string{"delivery/nothing is published"},
			fault: fault{publish: func(p *process, topic string, msgs []*message.Message) error {
				if len(msgs) == 0 {
					return errors.New("syntax error at or near the end of input")
				}
				return p.store(topic, msgs...)
			}},
		},
		{
			name:     "nothing is a message",
			breaks:   "Publish without messages stores one",
			killedBy: []string{"delivery/nothing is published"},
			fault: fault{publish: func(p *process, topic string, msgs []*message.Message) error {
				if len(msgs) == 0 {
					msgs = []*message.Message{message.NewMessage("", nil)}
				}
				return p.store(topic, msgs...)
			}},
		},
		{
			name:     "nothing waits for a subscriber",
			breaks:   "what is published before there is a subscriber is dropped",
			killedBy: []string{"delivery/messages wait for their subscriber"},
			fault: fault{
				publish: func(p *process, topic string, msgs []*message.Message) error {
					if p.count("subscribed "+topic) == 0 {
						return nil
					}
					return p.store(topic, msgs...)
				},
				subscribe: func(p *process, ctx context.Context, topic string) (<-chan *message.Message, error) {
					p.increment("subscribed " + topic)
					return p.start(ctx, topic)
				},
			},
		},
	}
}

// naming returns the flaw of calling topics otherwise.
func naming(name func(string) string) fault {
	return fault{
		publish: func(p *process, topic string, msgs []*message.Message) error {
			return p.store(name(topic), msgs...)
		},
		subscribe: func(p *process, ctx context.Context, topic string) (<-chan *message.Message, error) {
			return p.start(ctx, name(topic))
		},
	}
}

func topicMutants() []mutant {
	return []mutant{
		{
			name:     "every topic gets everything",
			breaks:   "a message arrives on all topics that have a subscription",
			killedBy: []string{"delivery/topics are apart"},
			fault: fault{publish: func(p *process, _ string, msgs []*message.Message) (err error) {
				for _, other := range p.topics() {
					err = errors.Join(err, p.store(other, msgs...))
				}
				return err
			}},
		},
		{
			name:     "topics have no case",
			breaks:   "topics share messages if their names differ in case only",
			killedBy: []string{"topics/names that are alike are apart"},
			fault:    naming(strings.ToLower),
		},
		{
			name:     "topics are identifiers",
			breaks:   "topics share messages if their names differ in punctuation only",
			killedBy: []string{"topics/names that are alike are apart"},
			fault:    naming(strings.NewReplacer(".", "_", "-", "_", "/", "_").Replace),
		},
		{
			name:     "names of topics are cut",
			breaks:   "topics share messages if their names begin with the same 48 bytes",
			killedBy: []string{"topics/names that are alike are apart"},
			fault:    naming(func(topic string) string { return topic[:min(len(topic), 48)] }),
		},
		{
			name:     "a topic is a pattern",
			breaks:   "Publish accepts a name that Subscribe understands otherwise: what is published never arrives",
			killedBy: []string{"topics/an odd name works or is refused"},
			fault: fault{publish: func(p *process, topic string, msgs []*message.Message) error {
				return p.store(strings.TrimLeft(topic, "*>#"), msgs...)
			}},
		},
		{
			name:     "an odd name is a panic",
			breaks:   "Publish panics instead of refusing a topic",
			killedBy: []string{"topics/an odd name works or is refused"},
			fault: fault{publish: func(p *process, topic string, msgs []*message.Message) error {
				if strings.Contains(topic, "DROP TABLE") {
					panic("invalid topic")
				}
				return p.store(topic, msgs...)
			}},
		},
		{
			name:   "one message at a time",
			breaks: "a message that is not settled holds up those of other topics",
			killedBy: []string{
				"delivery/a message that waits does not hold up other topics", "router/a slow handler holds up no other topic",
			},
			fault: fault{interception: interception{deliver: func(d *delivery) bool { return d.acquire(d.slot("all topics")) }}},
		},
	}
}
