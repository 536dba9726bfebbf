package ezqtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/ezqtest"
	"github.com/ezq-go/ezq/middleware"
)

// What has failed at night is a test the next morning.
func TestSignUp_WithSpacesIsHandled(t *testing.T) {
	t.Parallel()
	letter := ezqtest.ReadDeadLetter(t, "testdata/deadletter.json") // as ezq dead show ezq --row 17 has shown it
	ezqtest.Run(t, accounts, func(f *ezqtest.Flow) {
		f.Redrive(letter)
		f.AwaitIdle()
		ezqtest.Handled[signedUp](f).Times(1)
		ezqtest.DeadLettered[signedUp](f).Times(0)
	})
}

func TestFlow_RedriveDeliversAsARedriveDoes(t *testing.T) {
	t.Parallel()
	letter := ezqtest.ReadDeadLetter(t, "testdata/deadletter.json")
	require.EqualExportedValues(t, backend.FoundDeadLetter{
		Row: 17, ID: "c35990a4-b53e-4de7-94df-963476fdc7c2", Topic: "ezq", Handler: "signedUp", Event: "signedUp", Reason: `no account for "Ada@Example.com "`, Failures: 5,
		At: time.Date(2026, 11, 30, 2, 14, 7, 0, time.UTC), Payload: letter.Payload, Metadata: message.Metadata{"content-type": "application/json", "name": "signedUp", "tenant": "a"},
	}, letter)
	build := func(client backend.Backend) *ezq.Router {
		router := ezq.NewRouter(client, &quiet)
		router.Use(middleware.Poison{}.Middleware)
		ezq.Handle(router, func(ctx context.Context, e signedUp) error {
			meta := ezq.MetaFromContext(ctx)
			assert.Equal(t, letter.ID, meta.ID)
			assert.Equal(t, 0, meta.Failures)
			assert.Equal(t, "Ada@Example.com ", e.Email)
			return ezq.Permanent(errors.New("no such account"))
		})
		return router
	}
	ezqtest.Run(t, build, func(f *ezqtest.Flow) {
		f.Redrive(letter)
		f.AwaitIdle()
		ezqtest.DeadLettered[signedUp](f).Equal(signedUp{Email: "Ada@Example.com "})
	})
}

func TestFlow_RedriveHandlesWhatHasExpired(t *testing.T) {
	t.Parallel()
	letter := ezqtest.ReadDeadLetter(t, "testdata/deadletter.json")
	letter.Metadata[backend.ExpiresAt] = "1999-01-01T00:00:00Z"
	ezqtest.Run(t, accounts, func(f *ezqtest.Flow) {
		f.Redrive(letter)
		f.AwaitIdle()
		ezqtest.Handled[signedUp](f).Times(1)
	})
}

func TestDeadLetter_SurvivesJSON(t *testing.T) {
	t.Parallel()
	for _, letter := range []backend.FoundDeadLetter{
		{Row: 1, ID: "a", Topic: "t", Payload: []byte(`{"a":1}`), Metadata: message.Metadata{"k": "v"}},
		{Row: 2, ID: "b", Topic: "t", Payload: []byte("\x00\xff")},
		{Row: 3, Payload: []byte("text")},
		{Row: 4, Payload: []byte("\"\xff\"")},
	} {
		text, err := json.Marshal(letter)
		require.NoError(t, err)
		file := filepath.Join(t.TempDir(), "letter.json")
		require.NoError(t, os.WriteFile(file, text, 0o600))
		require.EqualExportedValues(t, letter, ezqtest.ReadDeadLetter(t, file))
		require.Contains(t, string(text), letter.Version())
	}
}
