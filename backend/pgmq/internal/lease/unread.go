package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
)

// unread is a leased message that cannot be read, or perhaps cannot.
type unread struct {
	row      Row   // without what it says
	cause    error // nil if it is not certain
	doubtful bool  // PostgreSQL itself may be in trouble, and not the message
}

// hiddenFor returns how long the message stays invisible: one that PostgreSQL had no
// time or no memory to read comes back after 2 seconds, then 4, and so on, so that
// a server in trouble delays healthy messages little, and a message that is to
// blame soon takes hardly any of its time.
func (u unread) hiddenFor() time.Duration {
	if !u.doubtful {
		return maxHidden
	}
	return min(time.Second<<min(u.row.Number, 12), maxHidden)
}

// headers returns what the message is marked with.
func (u unread) headers(text codec.Encoding) *string {
	if u.doubtful {
		return nil
	}
	reason, _ := json.Marshal(map[string]string{ // strings: it cannot fail
		backend.DeadLetterReason: text.Storable(u.cause.Error()),
		backend.DeadLetterAt:     time.Now().UTC().Format(time.RFC3339),
	})
	headers := string(reason)
	return &headers
}

func sizeError(size int64, limit int) error {
	if size < 0 {
		return fmt.Errorf("the headers have %d bytes, and the limit is %d", -size, codec.MaxHeaders)
	}
	return fmt.Errorf("the message has %d bytes, and MaxMessageBytes is %d", size, limit)
}

func unreadRows(rows []Row) []unread {
	all := make([]unread, len(rows))
	for i, r := range rows {
		all[i] = unread{row: r}
	}
	return all
}

// outOfTime returns messages as those that there is no time to read.
func outOfTime(messages []unread) []unread {
	late := slices.Clone(messages)
	for i := range late {
		late[i].cause, late[i].doubtful = errOutOfTime, true
	}
	return late
}

// errOutOfTime is why a message is hidden that could not be looked at before its lease ended.
var errOutOfTime = errors.New("there was no time to read it: too many messages take long")

// maxHidden is how long a message is invisible that cannot be archived, and how
// long at most one that perhaps can be read the next time.
const maxHidden = time.Hour
