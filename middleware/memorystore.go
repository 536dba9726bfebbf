package middleware

import (
	"cmp"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"
	"time"
)

// MemoryStore is a [Store] in the process. It forgets keys when their window ends,
// and the oldest ones when it is full. Of a key longer than 64 bytes it keeps the SHA-256,
// so a full one takes some 30 MB, whatever the keys are. Create it with [NewMemoryStore].
type MemoryStore struct {
	capacity int

	mu    sync.Mutex
	keys  map[string]*list.Element
	order *list.List // of marked, the oldest first
}

type markedKey struct {
	key   string
	until time.Time
}

var _ Store = (*MemoryStore)(nil)

// NewMemoryStore returns an empty store for up to capacity keys, or for 100,000 if
// capacity is 0. It panics if capacity is negative.
func NewMemoryStore(capacity int) *MemoryStore {
	mustNotBeNegative("the capacity of a MemoryStore", capacity)
	return &MemoryStore{
		capacity: cmp.Or(capacity, 100_000),
		keys:     map[string]*list.Element{},
		order:    list.New(),
	}
}

// Seen implements [Store]. It does not fail.
func (s *MemoryStore) Seen(_ context.Context, key string) (bool, error) {
	key = shortKey(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.keys[key]
	return ok && s.at(e).until.After(time.Now()), nil
}

// Mark implements [Store]. It does not fail.
func (s *MemoryStore) Mark(_ context.Context, key string, window time.Duration) error {
	key = shortKey(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if e, ok := s.keys[key]; ok {
		s.forget(e)
	}
	for e := s.order.Front(); e != nil && (len(s.keys) >= s.capacity || !s.at(e).until.After(now)); e = s.order.Front() {
		s.forget(e)
	}
	s.keys[key] = s.order.PushBack(markedKey{key, now.Add(window)})
	return nil
}

// shortKey returns what stands for key: itself, or a digest, which is longer than any key that
// stands for itself. It shares no memory with key, which may be a part of something large.
func shortKey(key string) string {
	const longest = 2 * sha256.Size
	if len(key) <= longest {
		return strings.Clone(key)
	}
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:]) + "#"
}

func (s *MemoryStore) forget(e *list.Element) {
	delete(s.keys, s.at(e).key)
	s.order.Remove(e)
}

func (s *MemoryStore) at(e *list.Element) markedKey {
	return e.Value.(markedKey) //nolint:forcetypeassert // Mark puts nothing else in
}
