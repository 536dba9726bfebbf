// Package provision creates what a service needs in a database that has PGMQ: queues, groups and indexes. What is there
// already it leaves as it is, and tells.
package provision

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/schema"
)

// Service is what a service needs, as the file says it.
type Service struct {
	Topics []Topic `json:"topics"`
}

// Topic is a topic of a service.
type Topic struct {
	Topic             string   `json:"topic"`
	Groups            []string `json:"groups"`             // of consumers, each with a queue
	OwnQueue          *bool    `json:"own_queue"`          // for consumers without a group; by default, if there are no groups
	Kind              string   `json:"kind"`               // plain, unlogged or partitioned; plain by default
	PartitionInterval int      `json:"partition_interval"` // of a partitioned queue: see pgmq.QueueOptions
	RetentionInterval int      `json:"retention_interval"`
	DeadLetters       *bool    `json:"dead_letters"` // a queue for them; by default
	Tune              bool     `json:"tune"`         // as client.Tune does
	Indexes           []string `json:"indexes"`      // of the queues: key, id, event, header:NAME or field:PATH
	ArchiveIndexes    []string `json:"archive_indexes"`
}

// Read reads the file of a service. A field that it does not know is an error, with the name of the nearest.
func Read(text []byte) (Service, error) {
	var s Service
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		return s, explain(err, text)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return s, errors.New("there is something behind the end of the JSON")
	}
	return s, s.Check()
}

// explain returns an error of JSON as people want it.
func explain(err error, text []byte) error {
	if unknown := regexp.MustCompile(`unknown field "(.*)"$`).FindStringSubmatch(err.Error()); unknown != nil {
		return fmt.Errorf("there is no field %q: did you mean %q", unknown[1], nearest(unknown[1], fields()))
	}
	line := func(offset int64) int { return 1 + bytes.Count(text[:min(offset, int64(len(text)))], []byte("\n")) }
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("line %d is no JSON: %w", line(syntax.Offset), err)
	}
	if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("line %d: %s is a %s, and must be a %s", line(kind.Offset), kind.Field, kind.Value, kind.Type)
	}
	return err
}

func fields() []string {
	return []string{
		"topics", "topic", "groups", "own_queue", "kind", "partition_interval", "retention_interval", "dead_letters", "tune", "indexes", "archive_indexes",
	}
}

// nearest returns the name that takes the fewest changes of letters.
func nearest(given string, names []string) string {
	return slices.MinFunc(names, func(a, b string) int { return distance(given, a) - distance(given, b) })
}

func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := before
			if a[i] != b[j] {
				changed++
			}
			before = row[j+1]
			row[j+1] = min(changed, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// Check returns what makes no sense.
func (s Service) Check() error {
	if len(s.Topics) == 0 {
		return errors.New("it has no topics")
	}
	seen := map[string]bool{}
	for _, t := range s.Topics {
		if seen[t.Topic] {
			return fmt.Errorf("the topic %q is there twice", t.Topic)
		}
		seen[t.Topic] = true
		if err := t.check(); err != nil {
			return err
		}
	}
	return nil
}

func (t Topic) check() error {
	if _, err := pgmq.QueueName(t.Topic); err != nil {
		return err
	}
	if t.Topic == schema.Schedules {
		return fmt.Errorf("the topic %q is ezq's own: choose another name", t.Topic)
	}
	if _, err := t.options(); err != nil {
		return err
	}
	if backend.IsPattern(t.Topic) && (len(t.Groups) == 0 || t.hasOwnQueue()) {
		return fmt.Errorf("%q is a pattern, which only groups take: name some, and no own_queue", t.Topic)
	}
	for what, names := range map[string][]string{"group": t.Groups, "index": t.Indexes, "index of the archive": t.ArchiveIndexes} {
		if name, ok := repeated(names); ok {
			return fmt.Errorf("the %s %q of the topic %q is there twice", what, name, t.Topic)
		}
	}
	for _, group := range t.Groups {
		if _, err := pgmq.GroupQueueName(t.Topic, group); err != nil {
			return err
		}
	}
	_, err := indexesOf(append(slices.Clone(t.Indexes), t.ArchiveIndexes...))
	return err
}

// repeated returns a name that is there twice.
func repeated(names []string) (name string, ok bool) {
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return name, true
		}
	}
	return "", false
}

func (t Topic) hasOwnQueue() bool {
	if t.OwnQueue != nil {
		return *t.OwnQueue
	}
	return len(t.Groups) == 0
}

func (t Topic) hasDeadLetters() bool { return t.DeadLetters == nil || *t.DeadLetters }

func (t Topic) options() (o pgmq.QueueOptions, err error) {
	o.PartitionInterval, o.RetentionInterval = t.PartitionInterval, t.RetentionInterval
	switch t.Kind {
	case "", "plain":
		o.Kind = pgmq.QueuePlain
	case "unlogged":
		o.Kind = pgmq.QueueUnlogged
	case "partitioned":
		o.Kind = pgmq.QueuePartitioned
	default:
		return o, fmt.Errorf("the topic %q has the kind %q: did you mean %q", t.Topic, t.Kind, nearest(t.Kind, []string{"plain", "unlogged", "partitioned"}))
	}
	if o.Kind != pgmq.QueuePartitioned && (t.PartitionInterval != 0 || t.RetentionInterval != 0) {
		return o, fmt.Errorf("the topic %q has intervals, which are for the kind partitioned", t.Topic)
	}
	return o, nil
}

// queues returns the queues that the topic needs.
func (t Topic) queues() ([]queue, error) {
	options, err := t.options()
	if err != nil {
		return nil, err
	}
	var queues []queue
	if t.hasOwnQueue() {
		name, _ := pgmq.QueueName(t.Topic) // was checked
		queues = append(queues, queue{topic: t.Topic, name: name, of: t, options: options})
	}
	for _, group := range t.Groups {
		name, _ := pgmq.GroupQueueName(t.Topic, group)
		queues = append(queues, queue{t.Topic, group, name, t, options})
	}
	if t.hasDeadLetters() {
		dead := t.Topic + backend.DeadLetterSuffix
		name, err := pgmq.QueueName(dead)
		if err != nil {
			return nil, err
		}
		queues = append(queues, queue{topic: dead, name: name, of: Topic{Topic: dead}})
	}
	return queues, nil
}

// indexesOf returns the indexes that a file, or a flag, names.
func indexesOf(names []string) (indexes []schema.Index, err error) {
	for _, name := range names {
		kind, of, _ := strings.Cut(name, ":")
		switch {
		case name == "key":
			indexes = append(indexes, schema.KeyIndex())
		case name == "id":
			indexes = append(indexes, schema.IDIndex())
		case name == "event":
			indexes = append(indexes, schema.EventIndex())
		case kind == "header" && of != "":
			indexes = append(indexes, schema.HeaderIndex(of))
		case kind == "field" && of != "":
			field, err := backend.NewBodyField(of, "")
			if err != nil {
				return nil, err
			}
			indexes = append(indexes, schema.FieldIndex(field.Path...))
		default:
			return nil, fmt.Errorf("there is no index %q: write key, id, event, header:NAME or field:PATH", name)
		}
	}
	return indexes, nil
}
