package middleware_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

func TestCorrelationID_IsSetForEveryMessage(t *testing.T) {
	t.Parallel()
	brings := plainMessage(t)
	brings.Metadata.Set("correlation_id", "from elsewhere")
	for _, test := range []struct {
		name   string
		policy middleware.CorrelationID
		msg    *message.Message
		want   string
	}{
		{"a message keeps the id that it brings", middleware.CorrelationID{}, brings, "^from elsewhere$"},
		{"a message without one gets its own id", middleware.CorrelationID{}, plainMessage(t), "^id$"},
		{"a message without any id gets a new one", middleware.CorrelationID{}, message.NewMessage("", nil), "^[0-9a-f-]{36}$"},
		{"New chooses the id", middleware.CorrelationID{New: func(msg *message.Message) string { return "of " + msg.UUID }}, plainMessage(t), "^of id$"},
	} {
		t.Run(test.name, func(t *testing.T) {
			own := message.NewMessage("next", []byte("payload"))
			other := message.NewMessage("next", nil)
			other.Metadata.Set("correlation_id", "its own")
			made := []*message.Message{own, other, test.msg, nil}
			out, err := test.policy.Middleware(func(msg *message.Message) ([]*message.Message, error) {
				require.Regexp(t, test.want, ezq.CorrelationIDFromContext(msg.Context()))
				return made, nil
			})(test.msg)
			require.NoError(t, err)
			require.Len(t, out, 4)
			require.Regexp(t, test.want, out[0].Metadata.Get("correlation_id"))
			require.Equal(t, "payload", string(out[0].Payload))
			require.Same(t, other, out[1])
			require.Equal(t, "its own", out[1].Metadata.Get("correlation_id"))
			require.Regexp(t, test.want, out[2].Metadata.Get("correlation_id"))
			require.Same(t, own, made[0])
			require.Empty(t, own.Metadata, "what the handler has made is not changed")
		})
	}
	require.Empty(t, ezq.CorrelationIDFromContext(t.Context()))
}
