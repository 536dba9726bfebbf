package conformance

import (
	"reflect"
	"sync"
)

// owners knows which case got which publishers and subscribers: no two may get the same.
type owners struct {
	mu     sync.Mutex
	titles map[any]string // of the cases, by publisher or subscriber
}

func newOwners() *owners { return &owners{titles: map[any]string{}} }

// claim notes that a publisher or a subscriber belongs to a case. It returns the title
// of the case that already has it, or "".
func (o *owners) claim(half any, title string) string {
	v := reflect.ValueOf(half)
	if v.Kind() != reflect.Pointer || v.Type().Elem().Size() == 0 {
		return "" // equal values need not be the same
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.titles[half]
	o.titles[half] = title
	return before
}
