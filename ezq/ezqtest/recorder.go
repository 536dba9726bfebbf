package ezqtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// place is what consumers subscribe to: a topic or a pattern, without a group or with one. For each that gets a message of a
// topic, there is a copy.
type place struct{ topic, group string }

func (p place) String() string {
	if p.group == "" {
		return fmt.Sprintf("topic %q", p.topic)
	}
	return fmt.Sprintf("topic %q of group %q", p.topic, p.group)
}

// takes reports whether the consumers of a group get what is published to a topic.
func (p place) takes(topic string) bool {
	matches := backend.IsPattern(p.topic) && !backend.IsPattern(topic) && backend.MatchesPattern(p.topic, topic)
	return p.group != "" && (p.topic == topic || matches)
}

// recorder is what is known of the messages of a flow.
type recorder struct {
	mu         sync.Mutex
	changed    chan struct{}   // closed, and replaced, with each change
	subscribed map[place]bool  // those with a subscription
	groups     map[string]bool // the names of those that were asked for
	declared   []place         // the groups that there are
	own        map[string]bool // the topics with a queue of their own
	waiting    []*waitingMessage
	paused     map[place]backend.Paused
	known      map[messageKey]bool   // what has been seen so far, by the topic that it was published to
	deliveries map[deliveryCount]int // how many have begun or ended
	records    []record
	faults     []fault // for the deliveries to come
	begun      int     // deliveries
	called     int     // handlers that have returned
	running    bool    // the routers
	added      []*ezq.Router
}

// waitingMessage is a message that is in the queue: it may be delivered from visible on, or
// is being handled.
type waitingMessage struct {
	place
	publishedTo string // the topic
	id, event   string
	key         string    // of its condition
	first       time.Time // when it was published, or the first of those that it has replaced
	visible     time.Time
	handled     bool
	gone        bool // it was cancelled while it was being handled
}

// messageKey is a message, by the topic that it was published to.
type messageKey struct{ topic, id string }

// deliveryCount is what deliveries are counted of.
type deliveryCount struct {
	place
	id string
}

func newRecorder() *recorder {
	return &recorder{
		changed: make(chan struct{}), subscribed: map[place]bool{}, own: map[string]bool{}, groups: map[string]bool{}, paused: map[place]backend.Paused{}, known: map[messageKey]bool{},
		deliveries: map[deliveryCount]int{},
	}
}

// add adds a router to those that are to run, unless they run already.
func (r *recorder) add(router *ezq.Router) (added bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running {
		return false
	}
	r.added = append(r.added, router)
	return true
}

// start returns the routers that were added, and adds no more.
func (r *recorder) start() []*ezq.Router {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = true
	return r.added
}

// subscribe notes that a place has a subscription.
func (r *recorder) subscribe(p place) {
	r.subscribed[p] = true
	r.declare(p)
}

// declare notes that a place gets what is published from now on.
func (r *recorder) declare(p place) {
	switch {
	case p.group == "":
		r.own[p.topic] = true
	case !slices.Contains(r.declared, p):
		r.declared = append(r.declared, p)
	}
}

// groupsOf returns the groups that get what is published to a topic.
func (r *recorder) groupsOf(topic string) (places []place) {
	for _, p := range r.declared {
		if p.takes(topic) {
			places = append(places, p)
		}
	}
	return places
}

// placesOf returns the places that get a message which is published to a topic.
func (r *recorder) placesOf(topic string) []place {
	places := r.groupsOf(topic)
	if len(places) == 0 {
		r.own[topic] = true
	}
	if r.own[topic] {
		places = append(places, place{topic: topic})
	}
	return places
}

// isInSeveral reports whether several places get what is published to a topic.
func (r *recorder) isInSeveral(topic string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.placesOf(topic)) > 1
}

// idsOfKey returns the IDs of the messages of a topic that wait or are handled, and have a key.
func (r *recorder) idsOfKey(topic, key string) (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.waiting {
		if w.publishedTo == topic && w.key == key && !slices.Contains(ids, w.id) {
			ids = append(ids, w.id)
		}
	}
	return ids
}

// topicsOf returns a topic, and all others where a message with the ID waits or is handled.
func (r *recorder) topicsOf(id, topic string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	topics := []string{topic}
	for _, w := range r.waiting {
		if w.id == id && !slices.Contains(topics, w.topic) {
			topics = append(topics, w.topic)
		}
	}
	return topics
}

// placesAsked returns the places in which a backend looks for messages of a topic, or of a pattern, and how many deliveries of those with
// an ID have begun or ended there.
func (r *recorder) placesAsked(topic, id string) map[place]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := map[place]int{}
	for _, p := range append(r.groupsOf(topic), place{topic: topic}) {
		asked[p] = r.deliveries[deliveryCount{p, id}]
	}
	return asked
}

// note notes what a backend has of the messages with an ID in a place, which may have been deleted or moved. If a delivery has
// begun or ended since it was found, it may not be there any more, and the delivery says what became of it.
func (r *recorder) note(p place, topic, id string, found []backend.Found, deliveries int) {
	r.update(func() {
		if len(found) > 0 && r.deliveries[deliveryCount{p, id}] != deliveries {
			return
		}
		there := slices.DeleteFunc(slices.Clone(r.waiting), func(w *waitingMessage) bool {
			return w.place != p || w.id != id || w.publishedTo != topic && !backend.IsPattern(topic)
		})
		visible := time.Time{} // of one that is on its way
		if len(found) > 0 && found[0].State != backend.StateDelivered {
			visible = found[0].VisibleAt
		}
		for _, w := range there {
			switch {
			case len(found) == 0 && w.handled:
				w.gone = true
			case len(found) == 0:
				r.remove(w)
			case !w.handled && (deliveries == 0 || !visible.IsZero()): // else it waits for a retry, as its delivery has said
				w.visible = visible
			}
		}
		if len(there) == 0 && len(found) > 0 && (deliveries == 0 || !visible.IsZero()) { // else its ack is on its way
			publishedTo := topic
			if found[0].PublishedTo != "" {
				publishedTo = found[0].PublishedTo
			}
			r.addWaiting(p, publishedTo, &message.Message{UUID: id, Payload: found[0].Payload, Metadata: found[0].Metadata}, visible)
		}
	})
}

// isPaused reports whether nothing of a place is delivered now.
func (r *recorder) isPaused(p place, now time.Time) bool {
	for _, of := range [...]place{p, {topic: p.topic}} {
		if held, paused := r.paused[of]; paused && held.HoldsAt(now) {
			return true
		}
	}
	return false
}

// addWaiting notes that a message, which was published to a topic, is in the queue of a place.
func (r *recorder) addWaiting(p place, topic string, msg *message.Message, visible time.Time) *waitingMessage {
	w := &waitingMessage{place: p, publishedTo: topic, id: msg.UUID, event: nameOf(msg), first: time.Now(), visible: visible}
	if condition := backend.PublishConditionFromContext(msg.Context()); condition != nil {
		w.key = condition.UniqueKey
	}
	r.waiting = append(r.waiting, w)
	r.known[messageKey{topic, msg.UUID}] = true
	return w
}

// settleCondition reports whether a message that was published without an error is stored. It may be
// there in the place of another one.
func (r *recorder) settleCondition(waiting []*waitingMessage, msg *message.Message) bool {
	condition := backend.PublishConditionFromContext(msg.Context())
	switch result, _ := condition.Result(); result.Outcome {
	case backend.PublishExisted:
		return false
	case backend.PublishReplaced:
		if len(waiting) == 1 { // else the backend is asked
			r.replace(result.ID, waiting[0], condition.Debounce)
		}
	case backend.PublishStored:
	}
	return true
}

// replace has w wait in the place of the message with an ID: until that one's time, or, with debounce, until its
// own, and no longer than debounce after the first.
func (r *recorder) replace(id string, w *waitingMessage, debounce time.Duration) {
	i := slices.IndexFunc(r.waiting, func(other *waitingMessage) bool {
		return other.place == w.place && other.publishedTo == w.publishedTo && other.id == id && other != w && !other.handled
	})
	if i < 0 {
		return
	}
	there := r.waiting[i]
	w.first = there.first
	if latest := w.first.Add(debounce); debounce == 0 {
		w.visible = there.visible
	} else if w.visible.After(latest) {
		w.visible = latest
	}
	r.remove(there)
}

// isSubscribed reports whether topic has, or had, a subscription.
func (r *recorder) isSubscribed(topic string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.subscribed {
		if p.topic == topic {
			return true
		}
	}
	return false
}

// busy returns what there is to do now, or "", and what is closed when that changes.
func (r *recorder) busy() (what string, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, w := range r.waiting {
		switch {
		case w.handled:
			return fmt.Sprintf("%s on %v is being handled", w.event, w.place), r.changed
		case !w.visible.After(now) && r.subscribed[w.place] && !r.isPaused(w.place, now):
			return fmt.Sprintf("%s on %v waits to be handled", w.event, w.place), r.changed
		}
	}
	return "", r.changed
}

func (r *recorder) update(what func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what()
	close(r.changed)
	r.changed = make(chan struct{})
}

// startHandling marks a message as being handled, one that came from elsewhere too.
func (r *recorder) startHandling(p place, msg *message.Message) (w *waitingMessage) {
	r.deliveries[deliveryCount{p, msg.UUID}]++
	topic := p.topic
	if info := backend.DeliveryFromContext(msg.Context()); info != nil && info.PublishedTo != "" {
		topic = info.PublishedTo
	}
	for _, w = range r.waiting {
		if w.place == p && w.publishedTo == topic && w.id == msg.UUID && !w.handled {
			w.handled = true
			return w
		}
	}
	if !r.known[messageKey{topic, msg.UUID}] {
		r.addRecord(published, place{topic: topic}, msg, "")
	}
	w = r.addWaiting(p, topic, msg, time.Time{})
	w.handled = true
	return w
}

// forget takes back what addWaiting has noted of a message that is not stored.
func (r *recorder) forget(w *waitingMessage) {
	r.remove(w)
	if !slices.ContainsFunc(r.waiting, func(other *waitingMessage) bool { return other.publishedTo == w.publishedTo && other.id == w.id }) {
		delete(r.known, messageKey{w.publishedTo, w.id})
	}
}

// untilNext is how long the next message has to wait, or very long if none has.
func (r *recorder) untilNext() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := time.Duration(1<<63 - 1)
	for _, w := range r.waiting {
		if wait := time.Until(w.visible); wait > 0 && r.subscribed[w.place] {
			next = min(next, wait)
		}
	}
	return next
}

// knownGroups returns the names of the groups that the program has asked for.
func (r *recorder) knownGroups() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.groups))
}

// forward notes that d has passed for what waits.
func (r *recorder) forward(d time.Duration) {
	r.update(func() {
		for _, w := range r.waiting {
			w.first, w.visible = w.first.Add(-d), w.visible.Add(-d)
		}
	})
}

// settle tells the backend what became of a delivery, after it has been noted: the
// message may come again at once.
func (r *recorder) settle(d *delivery, w *waitingMessage, msg *message.Message, acked bool) {
	r.update(func() { r.deliveries[deliveryCount{w.place, w.id}]++ })
	var disposition backend.Disposition
	said := false
	if d.info != nil {
		disposition, said = d.info.Disposition()
	}
	switch {
	case d.committed():
		r.update(func() { r.remove(w) })
		msg.Ack()
	case r.isGone(w):
		r.update(func() { r.remove(w) })
		msg.Nack() // which changes nothing
	case fault(d.fault.Load()) != none: // the outcome is lost
		r.update(func() { w.handled, w.visible = false, time.Time{} })
		backend.Nack(msg, backend.DeliveryFromContext(msg.Context()).Unchanged())
	case acked:
		r.update(func() { r.remove(w) })
		msg.Ack()
	case disposition.Target != nil:
		r.update(func() {
			to := place{topic: disposition.Target.Topic}
			from := w.place
			from.topic = to.topic
			r.addRecord(deadLettered, from, msg, disposition.Target.Metadata[backend.DeadLetterReason])
			w.place, w.publishedTo, w.key, w.handled, w.visible = to, to.topic, "", false, time.Time{}
			r.declare(to)
			r.known[messageKey{w.topic, w.id}] = true
		})
		backend.DeadLetter(msg, *disposition.Target)
	case said:
		r.update(func() { w.handled, w.visible = false, time.Now().Add(disposition.Fallback.Delay) })
		backend.Nack(msg, disposition.Fallback)
	default:
		r.update(func() { w.handled, w.visible = false, time.Time{} })
		msg.Nack()
	}
}

func (r *recorder) isGone(w *waitingMessage) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return w.gone
}

func (r *recorder) remove(w *waitingMessage) {
	r.waiting = slices.DeleteFunc(r.waiting, func(other *waitingMessage) bool { return other == w })
}

// injectFault gives the delivery its fault, if one is due.
func (r *recorder) injectFault(d *delivery) {
	if !d.begun.CompareAndSwap(false, true) { // one of several handlers
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun++
	if len(r.faults) == 0 {
		return
	}
	d.fault.Store(int32(r.faults[0]))
	if r.faults[0] == lease {
		d.expire(backend.ErrLeaseLost)
	}
	r.faults = r.faults[1:]
}

func (r *recorder) addRecord(what string, p place, msg *message.Message, reason string) {
	r.records = append(r.records, newRecord(what, p, msg, reason))
}

func newRecord(what string, p place, msg *message.Message, reason string) record {
	return record{what, nameOf(msg), p, msg.Payload, reason}
}

// history is all that has happened, for the end of a message.
func (r *recorder) history() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.records) == 0 {
		return "\nNo event was published or handled."
	}
	var out strings.Builder
	out.WriteString("\nHistory:")
	for _, one := range r.records {
		fmt.Fprintf(&out, "\n\t%-13s %s on %v", one.what, one.payload, one.place)
		if one.reason != "" {
			fmt.Fprintf(&out, ": %s", one.reason)
		}
	}
	for _, w := range r.waiting {
		fmt.Fprintf(&out, "\n\t%-13s %s on %v", "waits", w.event, w.place)
		if !r.subscribed[w.place] {
			out.WriteString(", on which the router has no handlers")
		}
	}
	return out.String()
}

func (r *recorder) scheduleFaults(what fault, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, slices.Repeat([]fault{what}, n)...)
}

func (r *recorder) handlersCalled() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.called
}

func (r *recorder) discover(topic string, msg *message.Message, deliveries int, wait time.Duration) (underWay bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.known[messageKey{topic, msg.UUID}]:
		return false
	case r.subscribed[place{topic: topic}] && (wait <= 0 || deliveries > 0):
		return true // it is noted when it comes
	}
	r.addRecord(published, place{topic: topic}, msg, "")
	r.addWaiting(place{topic: topic}, topic, msg, time.Now().Add(wait))
	return false
}

func nameOf(msg *message.Message) string { return ezq.Marshaler{}.NameFromMessage(msg) }
