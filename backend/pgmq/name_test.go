package pgmq

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
)

func TestQueueName_KeepsTopicThatIsIdentifier(t *testing.T) {
	t.Parallel()
	for _, topic := range []string{
		"ezq", "orders", "o", "user_created", "v2_orders", "orders_", "orders__2",
		strings.Repeat("a", 47),
		"pkey", "default", "p1", "orders_p", "orders_price", "orders_px1", "orders_pkeys", "default_orders",
		"orders_h0123456789abcdef012",   // a digit short of a hash
		"orders_h0123456789abcdefghij",  // not hexadecimal
		"orders_x0123456789abcdef01234", // no mark
	} {
		queue, err := QueueName(topic)
		require.NoError(t, err, topic)
		require.Equal(t, topic, queue)
	}
}

// The names are pinned: a queue that is looked for under another name after an
// update of ezq is a queue that is lost.
func TestQueueName_IsReadableAndUniqueForAnyTopic(t *testing.T) {
	t.Parallel()
	for topic, queue := range map[string]string{
		"Orders":                       "orders_hb7e8acdd522e6190ac95",
		"ORDERS":                       "orders_hd0d6efb188ea82c3cd3b",
		"orders.created":               "orders_created_h18d455b750919e203028",
		"orders-created":               "orders_created_he84964461f00507e7b2f",
		"orders/created":               "orders_created_hb3f0f3f83216491eb3f6",
		"2fast":                        "t2fast_h323a2d31476710835c35",
		"_orders":                      "orders_h2bcef2e9d5ae51e464fb",
		"Straße":                       "stra_e_h58a3778c18c41726cd53",
		"注文":                           "t_h266125ddb97f1877b7db",
		"…":                            "t_hb4935894c8ce16bde67b",
		`"orders"`:                     "orders_h6b93dcf0ea82370276a8",
		"%s%d":                         "s_d_h194b624b3b06bb31209d",
		"orders_pkey":                  "orders_pkey_h9ba19b0b9a038af2f051",
		"orders_vt_idx":                "orders_vt_idx_h48df494c4ac043ce642b",
		"orders_fifo_idx":              "orders_fifo_idx_ha0353a61fdc8f4430d74",
		"orders_part_idx":              "orders_part_idx_hb63bfd9eb359c79b3c6b",
		"orders_msg_id_seq":            "orders_msg_id_seq_he7f3d1c257465a46796a",
		"orders_default":               "orders_default_hf2cec6946eabe13bbbeb",
		"orders_p1":                    "orders_p1_hd44f5e7a28e8d23d2152",
		"orders_p20260102":             "orders_p20260102_hb19f6b7b807d2efb4dbd",
		"orders_p2026_01_02":           "orders_p2026_01_02_h1899387eb9682fd2c367",
		"orders_h0123456789abcdef0123": "orders_h0123456789abcdef0_hdcf5e592db21099c7a09",
		" orders":                      "orders_h4df8e607a2d1952ca77b",
		"'; drop table pgmq.meta; --":  "drop_table_pgmq_meta_h4066f2632273c841536c",
		strings.Repeat("a", 48):        "aaaaaaaaaaaaaaaaaaaaaaaaa_h97daac0ee9998dfcad6c",
		strings.Repeat("Long.", 200):   "long_long_long_long_long_hdbfa003b585a04416b9b",
	} {
		got, err := QueueName(topic)
		require.NoError(t, err, topic)
		require.Equal(t, queue, got, topic)
	}
}

func TestQueueName_RefusesInvalidTopic(t *testing.T) {
	t.Parallel()
	for topic, message := range map[string]string{
		"":                        `pgmq: invalid topic: it is empty`,
		"a\x00b":                  `pgmq: topic "a\x00b": invalid topic: it contains a NUL`,
		"\xff":                    `pgmq: topic "\xff": invalid topic: it is not UTF-8`,
		strings.Repeat("a", 1025): `pgmq: topic "` + strings.Repeat("a", 100) + `"…: invalid topic: it has 1025 bytes, and the limit is 1024`,
	} {
		_, err := QueueName(topic)
		require.ErrorIs(t, err, ErrInvalidTopic)
		require.EqualError(t, err, message)
		var e *Error
		require.True(t, errors.As(err, &e))
		require.Equal(t, topic, e.Topic)
	}
}

func TestTableName_IsQuoted(t *testing.T) {
	t.Parallel()
	for queue, quoted := range map[string]string{
		"orders": `orders`, `a"b`: `a""b`, `a" cascade; drop table t; --`: `a"" cascade; drop table t; --`, "A.b": "A.b", `a'\`: `a'\`,
	} {
		require.Equal(t, `"pgmq"."q_`+quoted+`"`, queuename.Table(queue))
		require.Equal(t, `"pgmq"."a_`+quoted+`"`, queuename.Archive(queue))
	}
}

func FuzzQueueName_IsValidAndOfOneTopic(f *testing.F) {
	for _, topic := range []string{"orders", "Orders", "orders_pkey", "a_h0123456789abcdef0123", "_", "7", "ü", ""} {
		f.Add(topic, "orders.created")
	}
	name := regexp.MustCompile(`^[a-z][a-z0-9_]{0,46}$`)
	derived := regexp.MustCompile(`_(pkey|msg_id_seq|vt_idx|fifo_idx|part_idx|default|p[0-9][0-9_]*)$`)
	hashed := regexp.MustCompile(`_h[0-9a-f]{20}$`)
	f.Fuzz(func(t *testing.T, topic, other string) {
		queue, err := QueueName(topic)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalidTopic)
			return
		}
		require.Regexp(t, name, queue)
		require.NotRegexp(t, derived, queue)
		require.Equal(t, queue != topic, hashed.MatchString(queue), "its shape tells whether a name is hashed")

		again, err := QueueName(queue)
		require.NoError(t, err)
		require.Equal(t, queue == topic, again == queue, "the name of a hashed queue is another topic's")

		if otherQueue, err := QueueName(other); err == nil {
			require.Equal(t, topic == other, queue == otherQueue)
		}
	})
}

// Two topics share nothing: no queue, no groups, no routing key, and no dead letters. The
// dead letters of a topic are a topic too, "orders_dead" of "orders", by promise.
func FuzzTopics_ShareNothing(f *testing.F) {
	f.Add("müller & söhne", "m_ller_s_hne_h5381e28da7b3c8212019", "billing", "mallory")
	f.Add("orders.eu", "orders_eu", "", "eu")
	f.Add("orders_h0123456789abcdef0123", "orders_h0123456789abcdef0_hdcf5e592db21099c7a09", "a", "a")
	f.Add("a b", "a", "c", "b c")
	f.Add(strings.Repeat("a", 47), strings.Repeat("a", 47)+"_dead", "g", "g")
	f.Add("a_dead", "a", "_dead", "dead")
	f.Add("ORDERS", "orders", "G", "g")
	f.Fuzz(func(t *testing.T, one, two, group, other string) {
		queues, keys := map[string]string{}, map[string]string{}
		claim := func(names map[string]string, name, owner string) {
			if before, taken := names[name]; taken {
				require.Equal(t, before, owner, "%q is shared", name)
			}
			names[name] = owner
		}
		add := func(topic string) {
			queue, err := queuename.Of(topic)
			if err != nil {
				return
			}
			claim(queues, queue, topic)
			claim(keys, queuename.RoutingKey(topic), topic)
			for _, group := range []string{group, other} {
				if queue, err = queuename.OfGroup(topic, group); err == nil {
					claim(queues, queue, topic+"\x00"+group)
					require.Regexp(t, queuename.GroupPattern(topic), queue)
				}
			}
		}
		// The topics that are named as the queues of others are the ones to look at.
		for _, topic := range []string{one, two} {
			for _, topic := range []string{topic, topic + "_dead"} {
				add(topic)
				if queue, err := queuename.Of(topic); err == nil {
					add(queue)
				}
				if queue, err := queuename.OfGroup(topic, group); err == nil {
					add(queue)
				}
			}
		}
	})
}

func BenchmarkQueueName(b *testing.B) {
	for _, topic := range []string{"user_created", "user.created"} {
		b.Run(topic, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = queuename.Of(topic)
			}
		})
	}
}

func TestGroupNames_MatchEveryGroupQueue(t *testing.T) {
	t.Parallel()
	topics := []string{"orders", "Orders/EU", "日本", "-", "a_", "_", strings.Repeat("long", 30)}
	for _, topic := range topics {
		names := regexp.MustCompile(queuename.GroupPattern(topic))
		for _, group := range append(topics, "группа", "billing", "0", "h0123456789abcdef0123", " ") {
			queue, err := queuename.OfGroup(topic, group)
			require.NoError(t, err)
			require.True(t, names.MatchString(queue), "%s, a group of %q, does not match %v", queue, topic, names)
		}
	}
}
