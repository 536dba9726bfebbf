package fault

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// IsServerError reports whether err is PostgreSQL's answer to a statement, on a connection that
// goes on.
func IsServerError(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && severity(pg) == "ERROR" && len(pg.Code) == 5
}

// IsRefused reports whether PostgreSQL has refused a statement for its content: its
// values, a constraint, a trigger, a policy. It would again. A trigger can give any code;
// those of a state count as that.
func IsRefused(err error) bool {
	var pg *pgconn.PgError
	return IsServerError(err) && errors.As(err, &pg) && !isStateError(pg.Code)
}

// isStateError reports whether a SQLSTATE tells of the server, the connection, the session, or
// of what others do at the same time.
func isStateError(code string) bool {
	classes := []string{
		"08", // connection
		"0A", // feature not supported: a cached plan must not change its result
		"25", // invalid transaction state: read-only
		"26", // invalid SQL statement name: a pooler
		"28", // invalid authorization
		"3D", // invalid catalog name
		"3F", // invalid schema name
		"40", // transaction rollback: deadlock, serialization failure
		"53", // insufficient resources
		"57", // operator intervention: query canceled
		"58", // system error
		"F0", // configuration file error
		"XX", // internal error
	}
	codes := []string{"55006", "55P03"} // object_in_use, lock_not_available
	return slices.Contains(classes, code[:2]) || slices.Contains(codes, code)
}

// IsLockTimeout reports whether PostgreSQL itself has ended a wait for a lock. A trigger that
// refuses a row can give the same SQLSTATE, and not the name of that function.
func IsLockTimeout(err error) bool { return isInterrupt(err, "55P03") }

// IsOwnLockTimeout is IsLockTimeout for a wait of the statement itself: for a table, or for what another transaction has written
// to that one. A trigger or a foreign key has a context of its own, of more lines.
func IsOwnLockTimeout(err error, table string) bool {
	var pg *pgconn.PgError
	return IsLockTimeout(err) && errors.As(err, &pg) &&
		(pg.Where == "" || strings.Contains(pg.Where, table) && !strings.Contains(pg.Where, "\n"))
}

// IsStatementTimeout reports whether PostgreSQL itself has ended a statement, as one that took too long. A
// trigger can give that SQLSTATE, too.
func IsStatementTimeout(err error) bool { return isInterrupt(err, "57014") }

func isInterrupt(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code && pg.Routine == "ProcessInterrupts"
}

// IsRaised reports whether a statement has failed in a function that PostgreSQL has run for it, as that of a trigger
// is: which can give any SQLSTATE. A wait for a lock counts as none.
func IsRaised(err error) bool {
	var pg *pgconn.PgError
	return IsServerError(err) && errors.As(err, &pg) && pg.Where != "" && !IsLockTimeout(err)
}

// NotStoredMark is what a statement fails with that has not inserted all rows.
const NotStoredMark = "ezq_not_stored"

// IsNotStored reports whether a statement of ezq's has failed because rows were not inserted, of which
// PostgreSQL says nothing.
func IsNotStored(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "22P02" && pg.Where == "" && strings.Contains(pg.Message, NotStoredMark)
}

// MayBeRetried reports whether what PostgreSQL has refused may be taken another time as it is.
func MayBeRetried(err error) bool { return !IsRefused(err) || IsTableError(err) }

// IsTableError reports whether that would be so with any values: syntax error or access
// rule violation.
func IsTableError(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && strings.HasPrefix(pg.Code, "42")
}

// IsConflictWithoutKey reports whether a table has no key for the ON CONFLICT of a statement of ezq's. PostgreSQL does
// not say which table: if it is one that a function writes to, it names the function.
func IsConflictWithoutKey(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42P10" && pg.Where == ""
}

// IsUnreadable reports whether PostgreSQL failed because of what is stored: it is
// larger than PostgreSQL can write or count, damaged, or has no form in the client's encoding.
func IsUnreadable(err error) bool {
	return IsCode(err, "22003", "22008", "54000", "54001", "22021", "22P05", "XX001", "XX002")
}

// IsDoubtful reports whether PostgreSQL may have failed because of what it was to
// read: it was out of memory or out of time, or has found a bug in itself.
func IsDoubtful(err error) bool {
	return IsCode(err, "53200", "57014", "XX000")
}

// IsConcurrentCreation reports whether what a statement was to create may be there now: two sessions that create the
// same at once get in each other's way, also with "if not exists".
func IsConcurrentCreation(err error) bool {
	return IsCode(err, "23505", "42P07", "40P01", "XX000") // unique_violation, duplicate_table, deadlock_detected, internal_error
}

// IsCode reports whether err is what PostgreSQL says with one of these SQLSTATEs.
func IsCode(err error, codes ...string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && slices.Contains(codes, pg.Code)
}

// KeptRemedy is what to do about a table that keeps rows which were deleted.
func KeptRemedy(table string) string {
	return fmt.Sprintf("look for what keeps rows on %s: a BEFORE DELETE trigger that returns NULL, a rule or a policy", table)
}
