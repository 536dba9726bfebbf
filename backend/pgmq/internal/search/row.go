package search

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

//go:embed sql/read.sql
var readSQL string

// How much text of a message is read. As JSON, a payload has up to six times its bytes.
const (
	maxText = 6*backend.MaxFoundPayload + len(`""`)
	noText  = -1
)

// maxKey is the most bytes of a key with the name of a queue before it.
const maxKey = 64 + backend.MaxID

func readStatement(chosen choice, t table) string {
	return chosen.statement(readSQL, t, "{enqueued}", statement.Finite("enqueued_at"), "{vt}", statement.Finite("vt"), "{most}", fmt.Sprint(codec.MaxHeaders),
		"{id}", codec.HeaderSQL(codec.UUIDKey, backend.MaxID), "{key}", codec.HeaderSQL(codec.UniqueKey, maxKey))
}

// row is a message as read.sql reads it.
type row struct {
	id                int64
	reads             int32
	enqueued, visible time.Time
	later, never      bool
	known             bool
	uuid, key         string
	size, headersSize int
	message, headers  transact.Borrowed
}

// targets returns what the columns of read.sql are scanned into.
func (r *row) targets() []any {
	return []any{
		&r.id, &r.reads, &r.enqueued, &r.visible, &r.later, &r.never, &r.known, &r.uuid, &r.key, &r.size, &r.message, &r.headersSize, &r.headers,
	}
}

// found returns the message of a row of t. What it says of itself counts as far as its consumers
// believe it. size is how much memory its payload and its metadata take.
func (r *row) found(chosen choice, t table) (f backend.Found, size int) {
	headers := codec.Headers{UUID: r.uuid, Metadata: message.Metadata{}}
	err := headers.Decode(r.headers)
	if !r.known {
		headers.DropForged(t.queue)
	}
	headers.DropTaken(t.queue, r.id)
	f = backend.Found{
		ID: cmp.Or(headers.UUID, codec.DefaultID(t.queue, r.id)), Place: t.place, Queue: t.queue, State: r.state(t),
		PublishedAt: r.enqueued, VisibleAt: r.visible, Deliveries: int(r.reads), Failures: headers.Failures, Size: r.size,
	}
	if f.PublishedTo = headers.PublishedTo(chosen.topic); t.says != "" {
		f.PublishedTo = chosen.topic // which it was chosen by
	}
	f.UniqueKey, _ = strings.CutPrefix(r.key, chosen.own+"/")
	if f.UniqueKey == r.key {
		f.UniqueKey = "" // of another topic
	}
	if err == nil && r.headersSize > codec.MaxHeaders {
		err = fmt.Errorf("the headers have %d bytes, and consumers take %d", r.headersSize, codec.MaxHeaders)
	}
	if err != nil {
		f.Err = err
		return f, 0
	}
	f.Metadata, size = headers.Metadata, len(r.headers)+headers.Memory()
	if r.message == nil {
		return f, size
	}
	payload, err := codec.DecodePayload(r.message, headers.Encoding)
	if err != nil {
		payload = bytes.Clone(r.message) // as consumers get it
	}
	f.Size = len(payload)
	if f.Size <= backend.MaxFoundPayload {
		f.Payload, size = slices.Clip(payload), size+cap(payload)
	}
	return f, size
}

func (r *row) state(t table) backend.State {
	switch {
	case t.place == backend.InArchive && r.never:
		return backend.StateQuarantined
	case t.place == backend.InArchive:
		return backend.StateArchived
	case t.letters:
		return backend.StateDead
	case r.reads > 0:
		return backend.StateDelivered
	case r.later:
		return backend.StateDelayed
	default:
		return backend.StateWaiting
	}
}
