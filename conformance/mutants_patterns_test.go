package conformance_test

import (
	"slices"
	"strings"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

func patternMutants() []mutant {
	return []mutant{
		{
			name:     "a star is a hash",
			breaks:   "a * also takes several segments",
			killedBy: []string{"patterns/a star is one segment"},
			fault: fault{ownGroups: true, matches: func(pattern, topic string) bool {
				return backend.MatchesPattern(strings.ReplaceAll(pattern, "*", "#"), topic)
			}},
		},
		{
			name:     "a hash is a star",
			breaks:   "a # takes one segment only",
			killedBy: []string{"patterns/a hash is any text"},
			fault: fault{ownGroups: true, matches: func(pattern, topic string) bool {
				return backend.MatchesPattern(strings.ReplaceAll(pattern, "#", "*"), topic)
			}},
		},
		{
			name:     "a hash is AMQP's",
			breaks:   "the pattern orders.# also takes orders",
			killedBy: []string{"patterns/a hash is any text"},
			fault: fault{ownGroups: true, matches: func(pattern, topic string) bool {
				return backend.MatchesPattern(pattern, topic) || strings.HasSuffix(pattern, ".#") && topic == strings.TrimSuffix(pattern, ".#")
			}},
		},
		{
			name:     "patterns see the names of queues",
			breaks:   "a topic whose name PGMQ does not take comes by no pattern",
			killedBy: []string{"patterns/a pattern reads topics as they are written"},
			fault: fault{ownGroups: true, matches: func(pattern, topic string) bool {
				isOdd := func(c rune) bool { return c > '~' || strings.ContainsRune(" #%/'\\", c) }
				return !strings.ContainsFunc(topic, isOdd) && backend.MatchesPattern(pattern, topic)
			}},
		},
		{
			name:     "a message says the pattern",
			breaks:   "what comes by a pattern says that, and not its topic",
			killedBy: []string{"patterns/a message says its topic", "router/a handler knows the topic"},
			fault: fault{interception: interception{deliver: func(d *delivery) bool {
				if d.info.PublishedTo != "" {
					d.info.PublishedTo = d.topic
				}
				return true
			}}},
		},
		{
			name:     "a message says its topic once",
			breaks:   "a message that was nacked does not say its topic any more",
			killedBy: []string{"patterns/a message says its topic", "router/a handler knows the topic"},
			fault: fault{interception: interception{deliver: func(d *delivery) bool {
				if d.info.Number > 1 {
					d.info.PublishedTo = ""
				}
				return true
			}}},
		},
		{
			name:     "a pattern takes it all",
			breaks:   "a topic that a pattern matches has no other consumers",
			killedBy: []string{"patterns/a pattern takes nothing away"},
			fault: fault{ownGroups: true, publish: func(p *process, topic string, msgs []*message.Message) error {
				for _, queue := range p.queuesOf(topic) {
					if backend.IsPattern(subscribedOf(queue)) {
						return p.backend.Publish(queue, p.copiesFor(queue, topic, msgs)...)
					}
				}
				return p.store(topic, msgs...)
			}},
		},
		{
			name:     "patterns are looked up once",
			breaks:   "a publisher goes on with the patterns that there were when it published first",
			killedBy: []string{"patterns/a pattern may come at any time"},
			fault:    fault{ownGroups: true, publish: publishByFirstPatterns()},
		},
		{
			name:     "a pattern takes dead letters",
			breaks:   "what is published as a dead letter comes to a group that takes a pattern",
			killedBy: []string{"patterns/dead letters come by no pattern"},
			fault: fault{ownGroups: true, matches: func(pattern, topic string) bool {
				return backend.MatchesPattern(pattern, strings.TrimSuffix(topic, backend.DeadLetterSuffix))
			}},
		},
		{
			name:     "a pattern is a topic",
			breaks:   "a consumer without a group can subscribe to a pattern, and gets nothing",
			killedBy: []string{"patterns/a pattern is no topic"},
			fault:    fault{ownGroups: true, lenient: true},
		},
	}
}

// publishByFirstPatterns publishes to the queues that a process has found when it published first, and to those of the
// topic itself.
func publishByFirstPatterns() func(p *process, topic string, msgs []*message.Message) error {
	var known sync.Map
	return func(p *process, topic string, msgs []*message.Message) error {
		patterns, _ := known.LoadOrStore(p, p.topics())
		for _, queue := range p.queuesOf(topic) {
			if subscribed := subscribedOf(queue); subscribed != topic && !slices.Contains(patterns.([]string), subscribed) {
				continue
			}
			if err := p.backend.Publish(queue, p.copiesFor(queue, topic, msgs)...); err != nil {
				return err
			}
		}
		return nil
	}
}
