package fault

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// A cast in an index, a CHECK, a generated column or a trigger has PostgreSQL quote the value that it
// fails for: invalid input syntax for type integer: "4111 1111 1111 1111". Some forty of its texts do
// so, in many ways and in every language, so that the values cannot be cut out of them. A text is
// shown where it is known to name nothing but tables, columns, constraints and states.

// shown returns pg as it may be shown: if its text may quote a value, with a text of ezq's own, and without the names
// that it gives of tables and the like, which are values then.
func shown(pg *pgconn.PgError) *pgconn.PgError {
	if IsNotStored(pg) {
		return withMessage(pg, "PostgreSQL accepts the row, and does not insert it into the table")
	}
	if isRaised(pg) && !isValidation(pg) || !mayQuote(pg) {
		return withMessage(pg, pg.Message)
	}
	of := ""
	if name := functionOf(pg); name != "" {
		of = " in " + name
	}
	return withMessage(pg, cmp.Or(conditionName(pg.Code), "an error")+of+"; PostgreSQL's own text may quote a message, and is in its log")
}

// serverText returns what is shown of an answer of PostgreSQL.
func serverText(pg *pgconn.PgError) string {
	if IsNotStored(pg) {
		return shown(pg).Message // its SQLSTATE is that of a cast, and means nothing
	}
	return fmt.Sprintf("%s (SQLSTATE %s)", shown(pg).Message, pg.Code)
}

// isRaised reports whether RAISE of PL/pgSQL has written all of pg, the names of tables in it as well.
func isRaised(pg *pgconn.PgError) bool { return pg.Routine == "exec_stmt_raise" }

// isValidation reports whether a function of PGMQ's has raised pg that checks a routing key or a pattern, and quotes it. A
// CHECK or a trigger can have it check what a message says.
func isValidation(pg *pgconn.PgError) bool {
	innermost, _, _ := strings.Cut(pg.Where, "\n")
	return strings.Contains(innermost, "pgmq.validate_")
}

// mayQuote reports whether the text of pg may quote a value. It may if that is not known.
func mayQuote(pg *pgconn.PgError) bool {
	if severity(pg) != "ERROR" || len(pg.Code) < 2 {
		return false // it is about the connection
	}
	evaluated := pg.Where != "" || pg.InternalQuery != "" // in a function
	switch class := pg.Code[:2]; {
	case class == "22":
		return true
	case slices.Contains([]string{"23", "25", "40", "53", "57"}, class):
		return false // they name constraints, columns, locks and limits
	case isOfPGMQ(pg):
		return false
	case class == "42", class == "26", class == "3F":
		// What the parser complains of is the text of a statement of ezq's own, which has no values in it.
		named := pg.Position > 0 || pg.Routine == "" || slices.Contains(routinesOfNames(), pg.Routine)
		return evaluated && !isPrivilege(pg) || !named
	}
	marks := quotationMarks
	if pg.Code[:2] != "XX" { // its numbers are those of sizes and of objects
		marks += "0123456789"
	}
	return evaluated || strings.ContainsAny(pg.Message, marks)
}

// isPrivilege reports whether pg says which table, or what else there is, the role lacks a privilege for.
func isPrivilege(pg *pgconn.PgError) bool {
	return slices.Contains([]string{"aclcheck_error", "aclcheck_error_col", "ExecWithCheckOptions"}, pg.Routine)
}

// routinesOfNames are functions of PostgreSQL's that name what there is, or what a program has prepared.
func routinesOfNames() []string {
	return []string{
		"aclcheck_error", "aclcheck_error_col", "ExecWithCheckOptions", "rewriteTargetListIU",
		"FetchPreparedStatement", "StorePreparedStatement", "exec_bind_message", "exec_describe_statement_message",
	}
}

// isOfPGMQ reports whether a function of PGMQ's that is given names only has failed. PostgreSQL says so in each language with
// "PL/pgSQL", the function and the number of its line, and without quotation marks; those are around a value that it quotes there.
func isOfPGMQ(pg *pgconn.PgError) bool {
	of := outermost(pg)
	return strings.Contains(of, "PL/pgSQL") && !strings.ContainsAny(of, quotationMarks) &&
		regexp.MustCompile(`pgmq\.(create|create_unlogged|create_partitioned|drop_queue|bind_topic)\([a-z, ]*\)[^()]*[0-9]`).MatchString(of)
}

// quotationMarks are those of all languages that PostgreSQL speaks.
const quotationMarks = `"'` + "`«»‹›„“”‚‘’「」『』"

// functionOf returns which line of which function has failed, or nothing. What is behind it may quote a value.
func functionOf(pg *pgconn.PgError) string {
	found := regexp.MustCompile(`^PL/pgSQL function ([A-Za-z0-9_.]{1,130})\(.*\) line ([0-9]+) at [A-Za-z ]+$`).FindStringSubmatch(outermost(pg))
	if found == nil {
		return ""
	}
	return fmt.Sprintf("line %s of %s", found[2], found[1])
}

// outermost returns the last line of where pg comes from: what a statement of ezq's has called.
func outermost(pg *pgconn.PgError) string { return pg.Where[strings.LastIndexByte(pg.Where, '\n')+1:] }

// serverErrors returns all answers of PostgreSQL in err.
func serverErrors(err error) (all []*pgconn.PgError) {
	switch wrapper := err.(type) { //nolint:errorlint // the tree is walked by hand, to see all of it
	case *pgconn.PgError:
		return []*pgconn.PgError{wrapper}
	case interface{ Unwrap() error }:
		return serverErrors(wrapper.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range wrapper.Unwrap() {
			all = append(all, serverErrors(inner)...)
		}
	}
	return all
}

// textOf returns the text of err with what may be shown of PostgreSQL's answers.
func textOf(err error, show func(*pgconn.PgError) string) string {
	text := err.Error()
	for _, pg := range serverErrors(err) {
		text = strings.ReplaceAll(text, pg.Error(), show(pg))
		text = strings.ReplaceAll(text, shown(pg).Error(), show(pg))
	}
	return text
}

// redactedServerError is an error with a pgconn.PgError that only [errors.As] gets at.
type redactedServerError struct{ err error }

func (e *redactedServerError) Error() string {
	return textOf(e.err, func(pg *pgconn.PgError) string { return shown(pg).Error() })
}

func (e *redactedServerError) Unwrap() error { return e.err }

// withoutQuotes returns err, or what may be shown of it if it has an answer of PostgreSQL.
func withoutQuotes(err error) error {
	if _, known := errors.AsType[*redactedServerError](err); known || len(serverErrors(err)) == 0 {
		return err
	}
	return &redactedServerError{err}
}
