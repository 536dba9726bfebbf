package middleware

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/excerpt"
	"github.com/ezq-go/ezq/internal/sparse"
)

// Deduplicate does not handle a message again that its handler has handled before:
// such a message is acked. Only success counts: a message that fails, is interrupted, is
// dead-lettered or released is not remembered, and its next delivery is handled.
//
// Of two that arrive at the same time, in one process, the second waits for the
// outcome of the first: it is dropped if that succeeds, and handled if not. In two
// processes both are handled. So is a message whose consumer dies after its handler
// has returned and before that is stored: it is a filter against the usual
// duplicates, not a transaction.
//
// A publisher chooses the keys of its messages. If it knows or guesses the key of another
// publisher's message, it can have that dropped, by publishing the key first: where publishers
// of a topic do not trust each other, set Key to a value that they cannot forge, or give each of
// them a topic.
//
// A handler that returns messages for Watermill's router to publish is never
// remembered, since it is unknown at that point whether they will be published.
type Deduplicate struct {
	// Store remembers. Defaults to a [MemoryStore] for each handler that is wrapped:
	// it knows what this process has handled since it started, and nothing else.
	// The KeyStore of backend/pgmq is for all processes, and lasts.
	Store Store

	// Key says what makes two messages the same. A message whose key is "" is
	// always handled; one with an error fails with it. Defaults to the topic and the
	// UUID of the message, and to "" if it has no UUID. With a pattern of topics, that is the
	// topic that the message was published to, besides the pattern.
	Key func(msg *message.Message) (string, error)

	// Handler tells handlers that share a Store apart. Defaults to the name that
	// the event has in the message, also where its handler knows that as an alias, and the
	// name of the handler. Set it for a single handler only: a message that
	// one of several has handled is not for the others any more if they share it.
	Handler string

	// Window is for how long a message is remembered. Defaults to 24 hours.
	Window time.Duration

	// Logger is told about duplicates, at debug level, and about messages that could
	// not be remembered. Defaults to that of the router: see [ezq.LoggerFromContext].
	Logger *slog.Logger
}

// Store remembers keys. Its methods are called concurrently, and a key is UTF-8 of
// any length.
type Store interface {
	// Seen reports whether key was marked and is still remembered. With an error
	// the message is not handled, and fails.
	Seen(ctx context.Context, key string) (bool, error)

	// Mark remembers key for as long as window, counted from now also if it was
	// marked before. With an error the message is done nevertheless.
	Mark(ctx context.Context, key string, window time.Duration) error
}

// markTimeout is how long remembering may take. The message's own context may have
// ended, and its handler has succeeded all the same.
const markTimeout = 10 * time.Second

// Middleware implements [message.HandlerMiddleware]. It panics if Window is
// negative.
func (p Deduplicate) Middleware(next message.HandlerFunc) message.HandlerFunc {
	mustNotBeNegative("Deduplicate.Window", p.Window)
	p.Window = cmp.Or(p.Window, 24*time.Hour)
	if p.Store == nil {
		p.Store = NewMemoryStore(0)
	}
	if p.Key == nil {
		p.Key = topicAndUUID
	}
	locks := &keyLocks{keys: map[string]chan struct{}{}}
	return func(msg *message.Message) ([]*message.Message, error) {
		key, err := p.Key(msg)
		if err != nil {
			return nil, fmt.Errorf("middleware: deduplicate: key: %w", err)
		}
		if key == "" {
			return next(msg)
		}
		ctx := msg.Context()
		key = p.handler(ctx, msg) + " " + key
		unlock, err := locks.lock(ctx, key)
		if err != nil {
			releaseInterrupted(ctx, msg)
			return nil, err
		}
		defer unlock()
		return p.once(key, msg, next)
	}
}

// once handles msg unless key was seen.
func (p Deduplicate) once(key string, msg *message.Message, next message.HandlerFunc) ([]*message.Message, error) {
	ctx := msg.Context()
	seen, err := p.Store.Seen(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("middleware: deduplicate: %w", err)
	}
	if seen {
		p.logger(ctx).DebugContext(ctx, "middleware: duplicate dropped", "id", excerpt.Of(msg.UUID), "key", excerpt.Of(key))
		return nil, nil
	}

	watched, result := watchOutcome(ctx)
	defer msg.SetContext(ctx)
	msg.SetContext(watched)
	out, err := next(msg)
	switch {
	case err != nil, backend.Nacked(msg), result.deadLettered:
		return out, err
	case len(out) > 0:
		const text = "middleware: not remembered, for its handler returned messages: publish them in the handler"
		p.log(ctx, slog.LevelWarn, text, []any{"id", excerpt.Of(msg.UUID), "key", excerpt.Of(key)})
		return out, nil
	}
	lasting, cancel := context.WithTimeout(context.WithoutCancel(ctx), markTimeout)
	defer cancel()
	if err := p.Store.Mark(lasting, key, p.Window); err != nil {
		// To fail would be to handle it again for certain.
		p.log(ctx, slog.LevelError, "middleware: handled, but not remembered", []any{"id", excerpt.Of(msg.UUID), "key", excerpt.Of(key), "error", err})
	}
	return out, nil
}

func (p Deduplicate) log(ctx context.Context, level slog.Level, text string, attrs []any) {
	sparse.Log(ctx, p.logger(ctx), level, sparse.About{Text: text, Topic: topicOf(ctx), Handler: handlerOf(ctx)}, attrs...)
}

func (p Deduplicate) logger(ctx context.Context) *slog.Logger {
	return cmp.Or(p.Logger, ezq.LoggerFromContext(ctx))
}

// handler returns what tells the handler in ctx from all others, in quotes. Two events
// may have handlers of one name. The event goes by the name that the message gives it,
// which stays when a handler takes it under a new one with ezq.Alias.
func (p Deduplicate) handler(ctx context.Context, msg *message.Message) string {
	if p.Handler != "" {
		return strconv.Quote(p.Handler)
	}
	meta := ezq.MetaFromContext(ctx)
	if meta.Topic == "" {
		return strconv.Quote(handlerOf(ctx))
	}
	event := cmp.Or(ezq.Marshaler{}.NameFromMessage(msg), meta.Event)
	if meta.Event != meta.Handler {
		return strconv.Quote(event) + strconv.Quote(meta.Handler)
	}
	return strconv.Quote(event)
}

func topicAndUUID(msg *message.Message) (string, error) {
	if msg.UUID == "" {
		return "", nil
	}
	key := strconv.Quote(topicOf(msg.Context())) + " " + msg.UUID
	if d := backend.DeliveryFromContext(msg.Context()); d != nil && d.PublishedTo != "" {
		key = strconv.Quote(d.PublishedTo) + key
	}
	return key, nil
}

// keyLocks are the keys whose messages are being handled.
type keyLocks struct {
	mu   sync.Mutex
	keys map[string]chan struct{} // closed when that is over
}

// lock waits until key is free. It returns the cause with which ctx has
// ended if that comes first.
func (b *keyLocks) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		mine, other := b.tryLock(key)
		if other == nil {
			return func() { b.unlock(key, mine) }, nil
		}
		err := ezq.YieldSlot(ctx, func() error {
			select {
			case <-other:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		if err != nil {
			return nil, err
		}
	}
}

// tryLock takes key, or returns its holder's channel.
func (b *keyLocks) tryLock(key string) (mine, other chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if other = b.keys[key]; other != nil {
		return nil, other
	}
	mine = make(chan struct{})
	b.keys[key] = mine
	return mine, nil
}

func (b *keyLocks) unlock(key string, mine chan struct{}) {
	b.mu.Lock()
	delete(b.keys, key)
	b.mu.Unlock()
	close(mine)
}
