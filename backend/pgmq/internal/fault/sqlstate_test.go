package fault

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is not known to be a state is what a row is refused with, for a trigger can give any code.
func TestSQLSTATE_TellsRefusedRowFromPassingState(t *testing.T) {
	t.Parallel()
	type classification struct{ answer, refused, mayPass bool }
	var (
		row     = classification{answer: true, refused: true}
		table   = classification{answer: true, refused: true, mayPass: true}
		state   = classification{answer: true, mayPass: true}
		nothing = classification{mayPass: true}
	)
	for want, errs := range map[classification][]error{
		row: {
			serverError("P0001", "raise_exception"), serverError("U0001", "a trigger's own"), serverError("45000", "unhandled user-defined exception"),
			serverError("23514", "check_violation"), serverError("22P02", "invalid_text_representation"), serverError("44000", "with_check_option_violation"),
			serverError("27000", "triggered_data_change_violation"), serverError("2F005", "no return"), serverError("38000", "external_routine_exception"),
			serverError("54000", "program_limit_exceeded"), serverError("55000", "object_not_in_prerequisite_state"), serverError("HV000", "fdw_error"),
			fmt.Errorf("wrapped: %w", serverError("P0001", "…")), Classify("settle", "t", serverError("U0001", "…")),
		},
		table: {serverError("42501", "insufficient_privilege"), serverError("42P01", "undefined_table")},
		state: {
			serverError("40001", "serialization_failure"), serverError("40P01", "deadlock_detected"), serverError("55P03", "lock_not_available"),
			serverError("55006", "object_in_use"), serverError("25006", "read_only_sql_transaction"), serverError("53100", "disk_full"),
			serverError("57014", "query_canceled"), serverError("58030", "io_error"), serverError("XX000", "internal_error"),
			serverError("08006", "connection_failure"), serverError("0A000", "cached plan"), serverError("26000", "a pooler"),
			serverError("F0000", "config_file_error"), serverError("3F000", "invalid_schema_name"), serverError("28000", "authorization"),
			serverError("3D000", "invalid_catalog_name"),
		},
		nothing: {fatal("57P01"), fatal("P0001"), serverError("", "no code"), io.EOF, context.Canceled},
	} {
		for _, err := range errs {
			require.Equal(t, want, classification{IsServerError(err), IsRefused(err), MayBeRetried(err)}, err)
		}
	}
}
