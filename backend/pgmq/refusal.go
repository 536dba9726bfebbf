package pgmq

import (
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// isServerError reports whether err is PostgreSQL's answer to a statement, on a connection that
// goes on.
func isServerError(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && severity(pg) == "ERROR" && len(pg.Code) == 5
}

// isRefused reports whether PostgreSQL has refused a statement for its content: its
// values, a constraint, a trigger, a policy. It would again. A trigger can give any code;
// those of a state count as that.
func isRefused(err error) bool {
	var pg *pgconn.PgError
	return isServerError(err) && errors.As(err, &pg) && !isStateError(pg.Code)
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

// isLockTimeout reports whether PostgreSQL itself has ended a wait for a lock. A trigger that
// refuses a row can give the same SQLSTATE, and not the name of that function.
func isLockTimeout(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "55P03" && pg.Routine == "ProcessInterrupts"
}

// mayBeRetried reports whether what PostgreSQL has refused may be taken another time as it is.
func mayBeRetried(err error) bool { return !isRefused(err) || isTableError(err) }

// isTableError reports whether that would be so with any values: syntax error or access
// rule violation.
func isTableError(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && strings.HasPrefix(pg.Code, "42")
}

// isUnreadable reports whether PostgreSQL failed because of what is stored: it is
// larger than PostgreSQL can write or count, damaged, or has no form in the client's encoding.
func isUnreadable(err error) bool {
	return isCode(err, "22003", "22008", "54000", "54001", "22021", "22P05", "XX001", "XX002")
}

// isDoubtful reports whether PostgreSQL may have failed because of what it was to
// read: it was out of memory or out of time, or has found a bug in itself.
func isDoubtful(err error) bool {
	return isCode(err, "53200", "57014", "XX000")
}

func isCode(err error, codes ...string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && slices.Contains(codes, pg.Code)
}

func firstError(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
