package schema_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/schema"
)

// The names are pinned: databases have indexes of these names.
func TestIndex_KeepsASimpleName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 47)
	for _, index := range []schema.Index{schema.KeyIndex(), schema.IDIndex(), schema.EventIndex()} {
		require.Equal(t, `"ezq_`+index.Purpose+`_q_`+long+`"`, index.Name(schema.Table(long)))
	}
	require.Equal(t, `"ezq_key_a_a_b_h0123456789abcdef0123"`, schema.KeyIndex().Name(schema.Archive("a_b_h0123456789abcdef0123")))
	require.Equal(t, `"ezq_header_q_orders_dead_tenant"`, schema.HeaderIndex("tenant").Name(schema.Table("orders_dead")))
	require.Equal(t, `"ezq_header_q_t_other""one"`, schema.HeaderIndex(`other"one`).Name(schema.Table("t")))
	require.Equal(t, `"ezq_field_q_orders_order_id"`, schema.FieldIndex("order", "id").Name(schema.Table("orders")))
	require.Equal(t, `"ezq_header_q_t_correlation_id_he31fbe1b348b19b49473"`, schema.HeaderIndex("correlation_id").Name(schema.Table("t")))
}

func TestIndex_OfAnotherThingHasAnotherName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 40)
	names := map[string]string{}
	for _, queue := range []string{"q", "q_order", "q_order_id", long, `q"`, "q_h0123456789abcdef0123"} {
		for _, table := range []string{schema.Table(queue), schema.Archive(queue)} {
			for _, index := range []schema.Index{
				schema.KeyIndex(), schema.IDIndex(), schema.EventIndex(),
				schema.HeaderIndex("id"), schema.HeaderIndex("order_id"), schema.HeaderIndex("order.id"), schema.HeaderIndex("h0123456789abcdef0123"),
				schema.FieldIndex("order", "id"), schema.FieldIndex("order_id"), schema.FieldIndex("id"), schema.FieldIndex("x", "order", "id"), schema.FieldIndex(`"id`),
				schema.FieldIndex("customer", "address", "street"), schema.FieldIndex("customer", "address", "number"),
				schema.FieldIndex("ééééééééééééééééééééééééééééééééé"), schema.FieldIndex("ééééééééééééééééééééééééééééééééé", "x"),
			} {
				name := index.Name(table)
				what := fmt.Sprintf("%q on %s", append([]string{index.Purpose}, index.Of...), table)
				require.Empty(t, names[name], "%s has the name of %s", name, what)
				names[name] = what
				require.LessOrEqual(t, len(name)-2, 63+strings.Count(name, `""`), name)
				require.Equal(t, strings.ToValidUTF8(name, "?"), name)
			}
		}
	}
}

func FuzzIndex_NamesAreUnique(f *testing.F) {
	f.Add("orders", "order.id", false, "orders", "order_id", false)
	f.Add("orders", "order.id", false, "orders_order", "id", false)
	f.Add("orders", "id", true, "orders_id", "h0123456789abcdef0123", true)
	f.Add(strings.Repeat("a", 47), "é", true, strings.Repeat("a", 47), "è", true)
	f.Fuzz(func(t *testing.T, queueA, pathA string, headerA bool, queueB, pathB string, headerB bool) {
		index := func(path string, header bool) schema.Index {
			if header {
				return schema.HeaderIndex(path)
			}
			return schema.FieldIndex(strings.Split(path, ".")...)
		}
		a, b := index(pathA, headerA), index(pathB, headerB)
		nameA, nameB := a.Name(schema.Table(queueA)), b.Name(schema.Table(queueB))
		if schema.Table(queueA) == schema.Table(queueB) && pathA == pathB && headerA == headerB {
			require.Equal(t, nameA, nameB)
			return
		}
		require.NotEqual(t, nameA, nameB)
		require.LessOrEqual(t, len(nameA)-2, 63+strings.Count(nameA, `""`), nameA)
	})
}
