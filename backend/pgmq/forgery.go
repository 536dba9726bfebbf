package pgmq

import "github.com/ezq-go/ezq/backend/internal/subscription"

// forgery is a message that says what only ezq may.
type forgery struct {
	token    subscription.Token
	progress bool // what was done with it
	named    bool // an id that another message has by itself
}

func (f forgery) any() bool { return f.progress || f.named }
