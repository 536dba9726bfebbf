package insert

import (
	"slices"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

func TestPublish_RefusesMoreThanPostgreSQLTakes(t *testing.T) {
	t.Parallel()
	megabyte := message.NewMessage("", make([]byte, 1<<20))
	_, err := Encode(slices.Repeat([]*message.Message{megabyte}, 1024), 1<<20)
	require.ErrorIs(t, err, fault.ErrTooLarge)
	require.ErrorContains(t, err, "1024 messages have 1073741824 bytes together")
	require.ErrorContains(t, err, "in several calls")
}

func TestBatchSize_ChecksLimitOfStatement(t *testing.T) {
	t.Parallel()
	whole := batchSize{messages: 1000, bytes: MaxStatement - 1000*parameterOverhead - statementOverhead}
	require.NoError(t, whole.check())
	require.Error(t, whole.plus(batchSize{bytes: 1}).check())
	require.Error(t, whole.plus(batchSize{messages: 1}).check())
}
