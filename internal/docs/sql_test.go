package docs

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// The SQL of docs/postgres.md, which is about a queue of another name, is run by a test of
// backend/pgmq.
func TestDocumentedSQL_OfOtherPagesRuns(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	run := func(sql string) error {
		_, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
		return err
	}
	const setUp = `select pgmq.create('ezq'), pgmq.create('ezq_dead'), pgmq.create('orders');
		create table pgmq.ezq_pauses (queue text primary key, paused_by text, reason text, since timestamptz, until timestamptz)`
	if err := run(setUp); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range readPages(t) {
		blocks, _ := page.blocks()
		for _, block := range blocks {
			if block.language != "sql" || page.name == "docs/postgres.md" {
				continue
			}
			found++
			text := block.text
			if strings.HasPrefix(text, "create role") { // roles belong to the whole server
				text = "begin; " + text + "; rollback"
			}
			if err := run(text); err != nil {
				t.Errorf("%s:%d: %v", block.page, block.line, err)
			}
		}
	}
	if found == 0 {
		t.Error("there is no SQL")
	}
}
