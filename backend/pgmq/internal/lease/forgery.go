package lease

import "github.com/ezq-go/ezq/backend/internal/subscription"

// A role that may publish may write any headers, also those reserved for ezq. Reserved
// headers count only if a consumer can have written them: if the message was leased before,
// which PGMQ notes in columns that a publisher need not have a right to. Of a message that
// was not, the lease removes them, so that they do not count later either.
//
// Redrive and Replay keep the ids of messages, invented ones too: they mark each message as
// if it had been leased.
//
// Before PGMQ 1.10 there is nothing to tell it by, and everything counts.

// forgery is a message that says what only ezq may.
type forgery struct {
	token    subscription.Token
	progress bool // what was done with it
	named    bool // an id that another message has by itself
}

func (f forgery) any() bool { return f.progress || f.named }
