package pgmq_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// mutedConn is a connection to PostgreSQL on which notifications do not arrive while it is
// told so, as through some poolers and firewalls.
type mutedConn struct {
	net.Conn
	muted *atomic.Bool
	read  bytes.Buffer // what has arrived
}

func (c *mutedConn) Read(p []byte) (int, error) {
	for c.read.Len() == 0 {
		header := make([]byte, 5) // the type of a message, and its length without that
		if _, err := io.ReadFull(c.Conn, header); err != nil {
			return 0, err
		}
		body := make([]byte, binary.BigEndian.Uint32(header[1:])-4)
		if _, err := io.ReadFull(c.Conn, body); err != nil {
			return 0, err
		}
		if header[0] != 'A' || !c.muted.Load() { // NotificationResponse
			c.read.Write(append(header, body...))
		}
	}
	return c.read.Read(p)
}

func TestListener_RecoversFromMissingNotifications(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig(pgtest.Database(t))
	require.NoError(t, err)
	var muted atomic.Bool
	muted.Store(true)
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return &mutedConn{Conn: conn, muted: &muted}, err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	log := &logRecorder{}
	client, err := pgmq.New(pool, &pgmq.Config{Logger: log.logger()})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	messages := subscribe(t, client)
	log.requireLogged(t, "cannot listen for notifications")
	publish(t, client, "a")
	receive(t, messages).Ack()
	muted.Store(false)
	log.requireLogged(t, "notifications arrive again")
}
