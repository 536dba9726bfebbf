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

// maxReason is how many bytes of a reason are looked at: to look for numbers takes a microsecond for a few of them.
const maxReason = 1100

// What is counted apart takes so much memory, in all, and for a kind beside its texts: dead letters can say anything of
// themselves.
const (
	maxKinds  = 32 << 20
	kindBytes = 300
)

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
	size     int // that of sums, in bytes
	rest     sum // of the kinds for which there was no room
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
	switch size := sizeOf(kind); {
	case ok:
	case c.size+size > maxKinds:
		one = &c.rest
	default:
		one = &sum{}
		c.sums[kind] = one
		c.size += size
	}
	one.add(sum{1, at, at})
}

// sizeOf returns how much memory a kind takes.
func sizeOf(kind backend.DeadLetterCount) int {
	return len(kind.Topic) + len(kind.Group) + len(kind.Handler) + len(kind.Event) + len(kind.Reason) + kindBytes
}

func (s *sum) add(other sum) {
	if s.letters == 0 {
		*s = other
		return
	}
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
	if len(reason) > maxReason { // as none is that ezq writes; what may be a part of a number or a UUID is left out
		reason = strings.TrimRight(strings.ToValidUTF8(reason[:maxReason], ""), "0123456789abcdefABCDEF-")
	}
	text := c.variable.ReplaceAllString(reason, "#")
	if len(text) <= maxPattern {
		return text
	}
	end := maxPattern
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return strings.Clone(text[:end]) // or all of it would stay
}

// Most returns up to limit counts, of the most frequent kinds first, and if there are more, the sum of the others too. What
// it has counted apart is exact.
func (c *Counts) Most(limit int) []backend.DeadLetterCount {
	all := make([]backend.DeadLetterCount, 0, len(c.sums))
	for kind, one := range c.sums {
		all = append(all, one.of(kind))
	}
	slices.SortFunc(all, compare)
	rest := c.rest
	for _, other := range all[min(limit, len(all)):] {
		rest.add(sum{other.Letters, other.Oldest, other.Newest})
	}
	if rest.letters == 0 {
		return all
	}
	return append(slices.Clone(all[:min(limit, len(all))]), rest.of(backend.DeadLetterCount{Rest: true}))
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
