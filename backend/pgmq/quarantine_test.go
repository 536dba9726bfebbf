package pgmq

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/subscription"
)

func TestAMessageIsNotArchivedForTheTroubleOfTheServer(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]struct{ unreadable, doubtful bool }{
		"54000": {unreadable: true}, // program_limit_exceeded: larger than 1 GB
		"XX001": {unreadable: true}, // data_corrupted
		"22P05": {unreadable: true}, // untranslatable_character
		"57014": {doubtful: true},   // query_canceled: by a timeout, or by an operator
		"53200": {doubtful: true},   // out_of_memory
		"XX000": {doubtful: true},   // internal_error
		"57P01": {},                 // admin_shutdown
		"40P01": {},                 // deadlock_detected
	} {
		err := error(&pgconn.PgError{Severity: "ERROR", Code: code})
		require.Equal(t, want.unreadable, isUnreadable(err), code)
		require.Equal(t, want.doubtful, isDoubtful(err), code)
	}
}

func TestAMessageThatPerhapsCanBeReadComesBackLaterAndLater(t *testing.T) {
	t.Parallel()
	message := unread{doubtful: true, cause: errors.New("out of memory")}
	for number, want := range map[int]time.Duration{1: 2 * time.Second, 2: 4 * time.Second, 10: 1024 * time.Second, 12: time.Hour, 1000: time.Hour} {
		message.token = subscription.Token{Number: number}
		require.Equal(t, want, message.aside(), number)
	}
	require.Nil(t, message.headers("UTF8"), "it is not marked, as it may still be handled")
}
