package conformance_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/conformance"
)

func groupMutants() []mutant {
	return []mutant{
		{
			name:     "groups share",
			breaks:   "a message arrives in one of several groups",
			killedBy: []string{"groups/each group gets everything"},
			fault: fault{ownGroups: true, publish: func(p *process, topic string, msgs []*message.Message) error {
				return p.backend.Publish(slices.Min(p.queuesOf(topic)), msgs...)
			}},
		},
		{
			name:     "every consumer is a group",
			breaks:   "a message arrives at each consumer of a group",
			killedBy: []string{"groups/a group shares its messages"},
			fault: fault{ownGroups: true, join: func(p *process, topic string) {
				p.group = fmt.Sprintf("%s %p", p.group, p)
				p.addGroup(topic, p.group)
			}},
		},
		{
			name:     "a group is its consumers",
			breaks:   "a group misses what is published while none of its consumers is there",
			killedBy: []string{"groups/a group keeps its place"},
			fault: fault{ownGroups: true, end: func(p *process) error {
				p.removeGroup(p.group)
				return p.stop()
			}},
		},
		{
			name:     "a nack is for all",
			breaks:   "a message that one group nacks comes again in others",
			killedBy: []string{"groups/a nack concerns its group"},
			fault: settling(func(d *delivery, v backend.Disposition) {
				if v.Target == nil && v.Fallback.Delay == 0 {
					_ = d.store(d.topic, d.msg.Copy())
					d.msg.Ack()
					return
				}
				d.settleAs(v)
			}),
		},
		{
			name:     "groups are looked up once",
			breaks:   "a publisher goes on with the groups that there were when it published first",
			killedBy: []string{"groups/a group may come at any time"},
			fault:    fault{ownGroups: true, publish: publishToFirstGroups()},
		},
		{
			name:     "groups go in step",
			breaks:   "a message that one group has not settled holds up the others",
			killedBy: []string{"groups/a group that lags holds up no other"},
			fault:    fault{interception: interception{deliver: func(d *delivery) bool { return d.acquire(d.slot(d.topic)) }}},
		},
	}
}

// publishToFirstGroups publishes to the groups that a process has found first.
func publishToFirstGroups() func(p *process, topic string, msgs []*message.Message) error {
	type key struct {
		*process
		topic string
	}
	var known sync.Map
	return func(p *process, topic string, msgs []*message.Message) (err error) {
		queues, _ := known.LoadOrStore(key{p, topic}, p.queuesOf(topic))
		for _, queue := range queues.([]string) {
			copies := make([]*message.Message, len(msgs))
			for i, msg := range msgs {
				copies[i] = msg.Copy()
				copies[i].SetContext(msg.Context())
			}
			err = errors.Join(err, p.backend.Publish(queue, copies...))
		}
		return err
	}
}

func transactionMutants() []mutant {
	return []mutant{
		{
			name:     "a commit stores nothing",
			breaks:   "what was published in a transaction is lost",
			killedBy: []string{"transactions/what is committed arrives", "router/an event is published with the work"},
			fault:    fault{begin: func(t *transaction, tx *conformance.Tx) { tx.Commit = t.rollBack }},
		},
		{
			name:   "transactions are ignored",
			breaks: "what is published in a transaction is stored at once",
			killedBy: []string{
				"transactions/what is not committed does not arrive", "transactions/what is rolled back never arrives",
				"router/an event is published with the work",
			},
			fault: fault{begin: func(t *transaction, tx *conformance.Tx) { tx.Publisher = publisherFunc(t.store) }},
		},
		{
			name:     "a rollback commits",
			breaks:   "what was published in a transaction that is rolled back arrives",
			killedBy: []string{"transactions/what is rolled back never arrives", "transactions/a transaction is all or nothing"},
			fault:    fault{begin: func(t *transaction, tx *conformance.Tx) { tx.Rollback = t.commit }},
		},
		{
			name:     "a transaction has one topic",
			breaks:   "of what is published to several topics in one transaction, some is lost",
			killedBy: []string{"transactions/a transaction is all or nothing"},
			fault: fault{begin: func(t *transaction, tx *conformance.Tx) {
				tx.Commit = func() error {
					t.writes = slices.DeleteFunc(t.writes, func(w write) bool { return w.topic != t.writes[0].topic })
					return t.commit()
				}
			}},
		},
		{
			name:     "transactions lock",
			breaks:   "no other publisher can publish while a transaction is open",
			killedBy: []string{"transactions/a transaction holds up no other publisher"},
			fault: fault{
				begin: func(t *transaction, tx *conformance.Tx) {
					lock := t.slot("lock")
					lock <- struct{}{}
					tx.Commit = func() error {
						defer func() { <-lock }()
						var err error
						for _, w := range t.writes {
							err = errors.Join(err, t.store(w.topic, w.msgs...))
						}
						return err
					}
				},
				publish: func(p *process, topic string, msgs []*message.Message) error {
					lock := p.slot("lock")
					lock <- struct{}{}
					defer func() { <-lock }()
					return p.store(topic, msgs...)
				},
			},
		},
	}
}

// changingDeadLetters returns the flaw of doing something else with dead letters.
func changingDeadLetters(f func(d *delivery, target *backend.DeadLetterTarget)) fault {
	return settling(func(d *delivery, v backend.Disposition) {
		if v.Target == nil {
			d.settleAs(v)
			return
		}
		f(d, v.Target)
	})
}

func deadLetterMutants() []mutant {
	return []mutant{
		{
			name:   "a dead letter is an ack",
			breaks: "a message that is given up is lost",
			killedBy: []string{
				"dead letters/a dead letter moves", "router and dead letters/a permanent failure is a dead letter",
				"router and dead letters/retries end", "router and dead letters/what cannot be handled is a dead letter",
			},
			fault: changingDeadLetters(func(d *delivery, _ *backend.DeadLetterTarget) { d.msg.Ack() }),
		},
		{
			name:     "a dead letter is a copy",
			breaks:   "a message that was given up stays where it was, too",
			killedBy: []string{"dead letters/a dead letter is gone where it was", "router and dead letters/a permanent failure is a dead letter"},
			fault: changingDeadLetters(func(d *delivery, target *backend.DeadLetterTarget) {
				dead := d.msg.Copy()
				for key, value := range target.Metadata {
					dead.Metadata.Set(key, value)
				}
				_ = d.store(target.Topic, dead)
				d.settleAs(backend.Disposition{Fallback: backend.Redelivery{Delay: time.Millisecond}})
			}),
		},
		{
			name:     "a dead letter has no reason",
			breaks:   "what a letter adds to the metadata of its message is lost",
			killedBy: []string{"dead letters/a dead letter moves", "router and dead letters/retries end"},
			fault: changingDeadLetters(func(d *delivery, target *backend.DeadLetterTarget) {
				d.settleAs(backend.Disposition{Target: &backend.DeadLetterTarget{Topic: target.Topic}})
			}),
		},
		{
			name:     "a dead letter is written anew",
			breaks:   "the payload of a dead letter is not what it was",
			killedBy: []string{"router and dead letters/what cannot be handled is a dead letter", "dead letters/a dead letter moves"},
			fault: changingDeadLetters(func(d *delivery, target *backend.DeadLetterTarget) {
				dead := message.NewMessage(d.msg.UUID, []byte("{}"))
				for _, metadata := range []message.Metadata{d.msg.Metadata, target.Metadata} {
					for key, value := range metadata {
						dead.Metadata.Set(key, value)
					}
				}
				_ = d.store(target.Topic, dead)
				d.msg.Ack()
			}),
		},
		{
			name:     "a poison pill stops the subscription",
			breaks:   "after a message that is given up, no other is handed over",
			killedBy: []string{"router and dead letters/what cannot be handled is a dead letter"},
			fault: fault{interception: interception{
				settle: func(d *delivery, v backend.Disposition) {
					if v.Target != nil {
						d.increment("stopped " + d.topic)
					}
					d.settleAs(v)
				},
				deliver: func(d *delivery) bool { return d.requireUnmarked("stopped " + d.topic) },
			}},
		},
		{
			name:     "a dead letter has failed",
			breaks:   "the failures of a message follow it when it is given up",
			killedBy: []string{"dead letters/a dead letter starts anew"},
			fault: fault{interception: interception{deliver: func(d *delivery) bool {
				if d.handed.Metadata.Get(backend.DeadLetterReason) != "" {
					d.info.Failures++
				}
				return true
			}}},
		},
		{
			name:     "a dead letter cannot die",
			breaks:   "a dead letter cannot be given up",
			killedBy: []string{"dead letters/a dead letter is a message"},
			fault: fault{interception: interception{deliver: func(d *delivery) bool {
				d.info.DeadLetters = d.handed.Metadata.Get(backend.DeadLetterReason) == ""
				return true
			}}},
		},
	}
}
