package catalog

import (
	"fmt"
	"strings"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

// AllStored is the condition that each of the inserts of a statement has inserted as many rows as there are
// in rows. A trigger that returns NULL, or one that stores a row in another table, inserts none, and PostgreSQL
// says nothing of it. Where they are not as many, it has the statement fail: see [fault.IsNotStored].
func AllStored(rows string, inserts ...string) string {
	counts := make([]string, len(inserts))
	for i, insert := range inserts {
		counts[i] = "(select count(*) from " + insert + ")"
	}
	return fmt.Sprintf("case when (select count(*) from %[1]s) = all(array[%[2]s]) then true else (select '%[3]s' from %[1]s limit 1)::boolean end",
		rows, strings.Join(counts, ", "), fault.NotStoredMark)
}
