package memory

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/ezq-go/ezq/backend"
)

// selector tells which entries a selection chooses.
type selector struct {
	backend.Selection
	field *field // or nil
}

// newSelector returns the selector of a selection that was checked.
func newSelector(s backend.Selection) selector {
	return selector{s, newField(s.Field, s.Equals)}
}

func (s selector) chooses(e *entry) bool {
	if s.ID != "" && e.uuid != s.ID || s.UniqueKey != "" && e.key != s.UniqueKey {
		return false
	}
	if s.Header != "" {
		if value, ok := e.metadata[s.Header]; !ok || value != s.Value {
			return false
		}
	}
	return (s.Event == "" || eventOf(e) == s.Event) && s.field.isIn(e.payload)
}

// eventOf returns the name of the event, or "".
func eventOf(e *entry) string {
	var object map[string]json.RawMessage
	if json.Unmarshal(e.payload, &object) == nil {
		if raw, ok := object["_type"]; ok {
			var name string
			_ = json.Unmarshal(raw, &name) // or it is no string, and names nothing
			return name
		}
	}
	return e.metadata["name"]
}

// find returns up to limit of the entries in a place that s chooses, the newest first. The
// mutex of the topics is held.
func (s selector) find(p place, limit int) []*entry {
	chosen := s.all(p)
	slices.SortFunc(chosen, func(a, b *entry) int { return cmp.Compare(b.id, a.id) })
	return chosen[:min(len(chosen), limit)]
}

// all returns the entries in a place that s chooses.
func (s selector) all(p place) (chosen []*entry) {
	for _, e := range p.entries {
		if (p.says == "" || e.publishedTo == p.says) && s.chooses(e) {
			chosen = append(chosen, e)
		}
	}
	return chosen
}
