// Package deadletters is what the backends have in common that keep dead letters: how they are counted, and how a part of a
// reason is found.
package deadletters

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ezq-go/ezq/backend"
)

// maxPattern is how many bytes of a reason are told of a count.
const maxPattern = 200

// A number, or a UUID, as a regular expression.
const (
	uuid     = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
	variable = "(" + uuid + "|[0-9]+)"
)

// Expression returns a regular expression that a reason matches which has part in it, where # stands for a number, a
// UUID or itself. It means the same in Go and in PostgreSQL.
func Expression(part string) string {
	return strings.ReplaceAll(regexp.QuoteMeta(part), "#", "("+uuid+"|[0-9]+|#)")
}

// Counts counts dead letters by what they say of themselves.
type Counts struct {
	variable *regexp.Regexp
	sums     map[backend.DeadLetterCount]*sum
}

// sum is what is counted of one kind.
type sum struct {
	letters        int
	oldest, newest time.Time
}

// NewCounts returns counts of nothing.
func NewCounts() *Counts {
	return &Counts{variable: regexp.MustCompile(variable), sums: map[backend.DeadLetterCount]*sum{}}
}

// Add counts a dead letter, which was stored at this time.
func (c *Counts) Add(d backend.FoundDeadLetter, at time.Time) {
	kind := backend.DeadLetterCount{Topic: d.Topic, Group: d.Group, Handler: d.Handler, Event: d.Event, Reason: c.pattern(d.Reason)}
	one, ok := c.sums[kind]
	if !ok {
		one = &sum{oldest: at, newest: at}
		c.sums[kind] = one
	}
	one.add(sum{1, at, at})
}

func (s *sum) add(other sum) {
	s.letters += other.letters
	if other.oldest.Before(s.oldest) {
		s.oldest = other.oldest
	}
	if other.newest.After(s.newest) {
		s.newest = other.newest
	}
}

// pattern returns the beginning of a reason without its numbers.
func (c *Counts) pattern(reason string) string {
	text := c.variable.ReplaceAllString(reason, "#")
	if len(text) <= maxPattern {
		return text
	}
	end := maxPattern
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// Most returns up to limit counts, of the most frequent kinds first, and if there are more, the sum of the others too.
func (c *Counts) Most(limit int) []backend.DeadLetterCount {
	all := make([]backend.DeadLetterCount, 0, len(c.sums))
	for kind, one := range c.sums {
		all = append(all, one.of(kind))
	}
	slices.SortFunc(all, compare)
	if len(all) <= limit {
		return all
	}
	others := all[limit:]
	rest := sum{oldest: others[0].Oldest, newest: others[0].Newest}
	for _, other := range others {
		rest.add(sum{other.Letters, other.Oldest, other.Newest})
	}
	return append(slices.Clip(all[:limit]), rest.of(backend.DeadLetterCount{Rest: true}))
}

func (s *sum) of(kind backend.DeadLetterCount) backend.DeadLetterCount {
	kind.Letters, kind.Oldest, kind.Newest = s.letters, s.oldest, s.newest
	return kind
}

func compare(a, b backend.DeadLetterCount) int {
	return cmp.Or(b.Letters-a.Letters, strings.Compare(a.Topic, b.Topic), strings.Compare(a.Group, b.Group), strings.Compare(a.Handler, b.Handler),
		strings.Compare(a.Event, b.Event), strings.Compare(a.Reason, b.Reason))
}

// Keys returns the metadata that a dead letter has as such.
func Keys() []string {
	return []string{
		backend.DeadLetterReason, backend.DeadLetterTopic, backend.DeadLetterHandler, backend.DeadLetterFailures, backend.DeadLetterAt,
	}
}
