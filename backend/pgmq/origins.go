package pgmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// Origin is where some of the messages of a dead-letter topic say that they came from,
// and what [Client.Redrive] does about them.
type Origin struct {
	// Topic and Group are what the dead letters say, with up to 1025 characters. They are
	// empty where a message does not say it, and where there are strays of more than
	// about 100 origins: the rest of them is added up.
	Topic, Group string

	// Queue is the queue that they say they were in, and that Redrive moves them to
	// unless they are strays. If it is empty, they are published to the topic anew, to all
	// of its groups.
	Queue string

	// Stray says that Redrive leaves them where they are: they are of a topic that was
	// not asked for, name a queue that is not their topic's, or say no topic.
	Stray bool

	// Missing says that Redrive leaves them where they are until the queue exists, or, if
	// Queue is empty, until the topic has one.
	Missing bool

	// Letters is how many dead letters they are among the oldest 10,000. LettersCapped
	// says that there are more than those, of this origin or of others.
	Letters       int
	LettersCapped bool
}

// How many dead letters [Client.Origins] counts, and how many origins it tells apart
// before it adds strays up.
const (
	originsLimit = 10_000
	straysLimit  = 100
)

func compareOrigins(a, b Origin) int {
	rank := func(o Origin) int {
		switch {
		case o.Stray:
			return 2
		case o.Missing:
			return 1
		}
		return 0
	}
	return cmp.Or(rank(a)-rank(b), b.Letters-a.Letters, strings.Compare(a.Topic+"\x00"+a.Group+"\x00"+a.Queue, b.Topic+"\x00"+b.Group+"\x00"+b.Queue))
}

// candidate is a dead letter, and what it says of where it came from.
type candidate struct {
	id                  int64
	queue, topic, group string
}

// originTexts are what is read of a candidate.
func originTexts() []string {
	return []string{headerSQL(codec.OriginKey), headerSQL(backend.DeadLetterTopic), headerSQL(codec.GroupKey)}
}

// newCandidate returns a message of which the originTexts were read.
func newCandidate(s seen) candidate {
	return candidate{id: s.id, queue: s.texts[0], topic: s.texts[1], group: s.texts[2]}
}

// headerSQL reads a header. A value that is no string, or longer than any topic, names nothing,
// and takes no memory here.
func headerSQL(key string) string {
	return fmt.Sprintf("case when pg_catalog.jsonb_typeof(headers->'%[1]s'::text) = 'string' then pg_catalog.left(headers->>'%[1]s'::text, %[2]d) else '' end", key, 2*backend.MaxTopic+1)
}

// destination is where a dead letter goes: to a queue, or if that is empty, to a topic.
// The zero destination is nowhere.
type destination struct{ topic, queue string }

func (d destination) stray() bool { return d.topic == "" }
func (d destination) key() string { return d.topic + "\x00" + d.queue }

// origins decides which dead letters are believed.
type origins struct {
	pool   *pgxpool.Pool
	topics []string
	groups map[string][]string // the bound queues of groups of a topic, as far as they were asked for
}

func newOrigins(pool *pgxpool.Pool, from string, topics []string) *origins {
	if topic, ok := strings.CutSuffix(from, backend.DeadLetterSuffix); ok && topic != "" && len(topics) == 0 {
		topics = []string{topic}
	}
	return &origins{pool: pool, topics: topics, groups: map[string][]string{}}
}

// check returns an error if no topic is named.
func (o *origins) check(from string) error {
	if len(o.topics) > 0 {
		return nil
	}
	return &Error{
		Kind: ErrInvalidConfig, Cause: fmt.Errorf("the topic is not named after another one, as %q is", from+backend.DeadLetterSuffix),
		Remedy: "ask for that, or name the topics whose dead letters are meant",
	}
}

// destination returns where the dead letter goes. The name of a group's queue follows from
// those of topic and group, so a dead letter that names both can only lead to a group of its
// topic; one that does not say its group has to name a queue that is bound.
func (o *origins) destination(ctx context.Context, c candidate) (destination, error) {
	own, err := queuename.Of(c.topic)
	if err != nil || !slices.Contains(o.topics, c.topic) {
		return destination{}, nil //nolint:nilerr // it names no topic
	}
	to := destination{c.topic, c.queue}
	if c.queue == "" || c.queue == own {
		return to, nil
	}
	if c.group != "" {
		if queue, err := queuename.OfGroup(c.topic, c.group); err == nil && queue == c.queue {
			return to, nil
		}
	}
	groups, err := o.groupsOf(ctx, c.topic)
	if err != nil || !slices.Contains(groups, c.queue) {
		return destination{}, err
	}
	return to, nil
}

// groupsOf returns the queues of the groups that are bound to topic.
func (o *origins) groupsOf(ctx context.Context, topic string) ([]string, error) {
	if known, ok := o.groups[topic]; ok {
		return known, nil
	}
	layout, err := catalog.Probe(ctx, o.pool, "ezq")
	if err != nil {
		return nil, err
	}
	var groups []string
	if layout.Groups {
		bound, err := catalog.Bindings(ctx, o.pool, topic)
		if err != nil && !errors.Is(err, ErrPermission) { // a role that may not look knows of none
			return nil, err
		}
		groups = bound.Groups(topic)
	}
	o.groups[topic] = groups
	return groups, nil
}

// topicNames says whose dead letters are moved.
func (o *origins) topicNames() string {
	quoted := make([]string, len(o.topics))
	for i, topic := range o.topics {
		quoted[i] = fmt.Sprintf("%q", topic)
	}
	if len(quoted) == 0 {
		return "a topic that was named"
	}
	return strings.Join(quoted, " or ")
}

// countOrigins counts the dead letters that are chosen by what selected says about them.
func countOrigins(ctx context.Context, routes *catalog.Routes, look *deadLetterLook, selected *origins) ([]Origin, error) {
	pool := look.pool
	look.texts = originTexts()
	last, err := transact.Value[int64](ctx, pool, fmt.Sprintf(lastSQL, queuename.Table(look.queue)))
	if err != nil {
		return nil, err
	}
	counts, capped := map[Origin]int{}, false
	for after, n := look.after(), 0; !capped; {
		found, err := look.next(ctx, after, last, min(lookBatch, originsLimit+1-n))
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			break
		}
		after = found[len(found)-1].id
		if n += len(found); n > originsLimit {
			capped, found = true, found[:len(found)-1]
		}
		for _, one := range found {
			if !one.isChosen() || !one.due {
				continue
			}
			c := newCandidate(one)
			to, err := selected.destination(ctx, c)
			if err != nil {
				return nil, err
			}
			origin := Origin{Topic: c.topic, Group: c.group, Queue: c.queue, Stray: to.stray()}
			if _, ok := counts[origin]; !ok && to.stray() && len(counts) >= straysLimit {
				origin = Origin{Stray: true}
			}
			counts[origin]++
		}
	}
	all := make([]Origin, 0, len(counts))
	for origin, n := range counts {
		origin.Letters, origin.LettersCapped = n, capped
		all = append(all, origin)
	}
	if err := markMissing(ctx, pool, routes, all); err != nil {
		return nil, err
	}
	slices.SortFunc(all, compareOrigins)
	return all, nil
}

// markMissing notes which of all have no queue to go to. It is one question for all queues: dead letters can
// name as many groups as they like.
func markMissing(ctx context.Context, pool *pgxpool.Pool, routes *catalog.Routes, all []Origin) error {
	var tables []string
	for _, o := range all {
		if !o.Stray && o.Queue != "" {
			tables = append(tables, queuename.Table(o.Queue))
		}
	}
	missing, err := transact.Collect(ctx, pool, pgx.RowTo[string], catalog.MissingTablesSQL, tables)
	if err != nil {
		return err
	}
	isMissing := map[string]bool{}
	for _, table := range missing {
		isMissing[table] = true
	}
	for i, o := range all {
		switch {
		case o.Stray:
		case o.Queue != "":
			all[i].Missing = isMissing[queuename.Table(o.Queue)]
		default:
			_, err := routes.LookUp(ctx, pool, o.Topic, nil)
			all[i].Missing = errors.Is(err, ErrQueueNotFound) // anything else is for Redrive to say
		}
	}
	return nil
}
