package pgmq

import (
	"context"
	"fmt"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// isDropped reports whether err says that the queue is not there any more.
func (s *store) isDropped(ctx context.Context, err error) bool {
	if !isCode(err, "42P01", "3F000") { // undefined_table, invalid_schema_name
		return false
	}
	var there bool
	err = s.pool.QueryRow(ctx, "select to_regclass($1) is not null", tableName(s.queue)).Scan(&there)
	return err == nil && !there
}

// queueDropped is why a subscription gets no more messages. The queue of a group would get none if
// somebody else created it.
func queueDropped(queue, group string) error {
	remedy := fmt.Sprintf("create it with SELECT pgmq.create('%s'), or publish to it", queue)
	if group != "" {
		remedy = "the subscription creates it again; if it must not, with NoCreate, let the owner declare its queue, with SubscribeInitialize of a program that has that Group"
	}
	return &Error{Op: "fetch", Kind: ErrQueueNotFound, Cause: fmt.Errorf("the queue %q was dropped", queue), Remedy: remedy}
}

func tokensOf(settle []subscription.Settlement) []subscription.Token {
	tokens := make([]subscription.Token, len(settle))
	for i, settlement := range settle {
		tokens[i] = settlement.Token
	}
	return tokens
}
