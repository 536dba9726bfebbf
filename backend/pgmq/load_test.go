package pgmq

import (
	"slices"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq/internal/insert"
)

func TestPublish_RefusesMoreThanPostgreSQLTakes(t *testing.T) {
	t.Parallel()
	megabyte := message.NewMessage("", make([]byte, 1<<20))
	_, err := insert.Encode(slices.Repeat([]*message.Message{megabyte}, 1024), 1<<20)
	require.ErrorIs(t, err, ErrTooLarge)
	require.ErrorContains(t, err, "1024 messages have 1073741824 bytes together")
	require.ErrorContains(t, err, "in several calls")
}

func TestLoad_ChecksLimitOfStatement(t *testing.T) {
	t.Parallel()
	whole := insert.BatchSize{Messages: 1000, Bytes: insert.MaxStatement - 1000*insert.ParameterOverhead - insert.StatementOverhead}
	require.NoError(t, whole.Check())
	require.Error(t, whole.Plus(insert.BatchSize{Bytes: 1}).Check())
	require.Error(t, whole.Plus(insert.BatchSize{Messages: 1}).Check())
}
