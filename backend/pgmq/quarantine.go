package pgmq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/sparse"
	"github.com/ezq-go/ezq/internal/subscription"
)

// Anybody who may insert can store a message that cannot be read: 300 stored
// bytes of JSON numbers can be a hundred megabytes when PostgreSQL writes them
// out, or more than it can write. Because the oldest messages are claimed first,
// one such message would keep every consumer from all others.
//
// A message that is too large is noticed by the claim, which does not send it. A
// claim that fails does not say because of which message. The messages of such a
// batch are then leased one at a time without reading them, and read afterwards.

// unread is a leased message that cannot be read.
type unread struct {
	token    subscription.Token
	cause    error
	doubtful bool // PostgreSQL itself may be in trouble, and not the message
}

const (
	// readTimeout is how long PostgreSQL may take to read one message.
	readTimeout = "3s"

	// asideFor is how long a message is invisible that cannot be archived, and how
	// long at most one that perhaps can be read the next time.
	asideFor = time.Hour
)

// aside returns how long the message stays invisible: one that PostgreSQL had no
// time or no memory to read comes back after 2 seconds, then 4, and so on, so that
// a server in trouble delays healthy messages little, and a message that is to
// blame soon takes hardly any of its time.
func (u unread) aside() time.Duration {
	if !u.doubtful {
		return asideFor
	}
	return min(time.Second<<min(u.token.Number, 12), asideFor)
}

func sizeError(size int64, limit int) error {
	if size < 0 {
		return fmt.Errorf("the headers have %d bytes, and the limit is %d", -size, maxHeaders)
	}
	return fmt.Errorf("the message has %d bytes, and MaxMessage is %d", size, limit)
}

// isUnreadable reports whether PostgreSQL failed because of what is stored: it is
// larger than PostgreSQL can write or count, damaged, or has no form in the client's encoding.
func isUnreadable(err error) bool {
	return isCode(err, "22003", "22008", "54000", "54001", "22021", "22P05", "XX001", "XX002")
}

// isDoubtful reports whether PostgreSQL may have failed because of what it was to
// read: it was out of memory or out of time, or has found a bug in itself.
func isDoubtful(err error) bool {
	return isCode(err, "53200", "57014", "XX000")
}

// beCareful has the next messages read one at a time, as many as the claim was
// to bring that failed with err, if they can be why.
func (s *store) beCareful(err error, limit int) {
	if isUnreadable(err) || isDoubtful(err) || errors.Is(err, context.DeadlineExceeded) {
		s.careful = limit
	}
}

// claimOne claims one message, and quarantines it if it cannot be read.
func (s *store) claimOne(ctx context.Context, settle []subscription.Settlement, lease time.Duration) (claim subscription.Claim, settled *settling, err error) {
	batch := newTransaction()
	settled = s.settle(batch, settle)
	var leased []row
	batch.Queue(s.sql().lease, 1, lease.Microseconds()).Query(func(rows pgx.Rows) error {
		var r row
		_, err := pgx.ForEachRow(rows, []any{&r.ID, &r.Number, &r.ReadAt, &r.Known}, func() error {
			leased = append(leased, r)
			return nil
		})
		return err
	})
	s.queueNext(batch, &claim)
	if err = batch.run(ctx, s.pool); err != nil {
		return claim, settled, err
	}
	s.careful--
	if len(leased) == 0 {
		s.careful = 0
		return claim, settled, nil
	}
	found, err := s.read(ctx, leased[0])
	claim.Leases = found.leases
	s.quarantine(ctx, found.tooLarge)
	s.distrust(ctx, found.forged)
	if err != nil { // not the message's fault: it comes back when its lease ends
		s.logger.Error("ezq: cannot read a message that was leased", "queue", s.queue, "msg_id", leased[0].ID, "error", classify("fetch", s.topic, err))
	}
	return claim, settled, nil
}

// read reads a leased message.
func (s *store) read(ctx context.Context, message row) (found found, err error) {
	token := message.token()
	batch := newTransaction()
	batch.Queue("select set_config('statement_timeout', $1, true)", readTimeout)
	batch.Queue(s.sql().read, token.ID, token.Number, s.limit, token.At, message.Known).Query(func(rows pgx.Rows) (err error) {
		found, err = s.leases(rows)
		return err
	})
	err = batch.run(ctx, s.pool)
	if doubtful := isDoubtful(err); doubtful || isUnreadable(err) {
		found.leases, found.tooLarge = nil, []unread{{token: token, cause: withoutSecrets(err), doubtful: doubtful}}
		return found, nil
	}
	return found, err
}

// headers returns what the message is marked with.
func (u unread) headers(text encoding) *string {
	if u.doubtful {
		return nil
	}
	reason, _ := json.Marshal(map[string]string{ // strings: it cannot fail
		backend.DeadLetterReason: text.storable(u.cause.Error()),
		backend.DeadLetterAt:     time.Now().UTC().Format(time.RFC3339),
	})
	headers := string(reason)
	return &headers
}

// quarantine moves messages to the archive of their queue, which does not read
// them, and notes why. If the archive cannot be used, or they can perhaps be read
// the next time, they stay, invisible.
func (s *store) quarantine(ctx context.Context, messages []unread) {
	for _, message := range messages {
		archived, err := s.putAside(ctx, message)
		text := "ezq: a message that cannot be read was moved to the archive"
		attrs := []any{"queue", s.queue, "msg_id", message.token.ID, "cause", message.cause}
		switch {
		case err != nil:
			text = "ezq: a message that cannot be read could not be put aside; it will be tried again"
			attrs = append(attrs, "error", classify("archive", s.topic, err))
		case !archived:
			text = "ezq: a message that cannot be read is put aside"
			attrs = append(attrs, "retry_in", message.aside().String())
		}
		sparse.Log(ctx, s.logger, slog.LevelError, sparse.About{Text: text, Topic: s.topic}, attrs...)
	}
}

func (s *store) putAside(ctx context.Context, message unread) (archived bool, err error) {
	var one tokens
	one.add(message.token)
	batch := newTransaction()
	batch.Queue(s.sql().nack, one.ids, one.numbers, one.times, []int64{message.aside().Microseconds()}, []*string{message.headers(s.encoding)}, []int32{0})
	if !message.doubtful {
		archive, unusable := archiving(ctx, s.pool, s.queue, *s.sql())
		if archived = unusable == nil; archived {
			batch.Queue(archive.ack, one.ids, one.numbers, one.times)
		}
	}
	return archived, batch.run(ctx, s.pool)
}
