package pgmq

import (
	"context"

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

func tokensOf(settlements []subscription.Settlement) []subscription.Token {
	tokens := make([]subscription.Token, len(settlements))
	for i, settlement := range settlements {
		tokens[i] = settlement.Token
	}
	return tokens
}
