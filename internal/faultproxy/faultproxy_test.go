package faultproxy_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/faultproxy"
	"github.com/ezq-go/ezq/internal/pgtest"
)

const patience = time.Minute

// echo is a server that counts the lines it gets and sends them back.
func echo(t *testing.T) (address string, lines *atomic.Int32) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	lines = &atomic.Int32{}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				for reader := bufio.NewReader(conn); ; {
					line, err := reader.ReadString('\n')
					if err != nil {
						return
					}
					lines.Add(1)
					_, _ = io.WriteString(conn, line)
				}
			}()
		}
	}()
	return listener.Addr().String(), lines
}

func start(t *testing.T) (*faultproxy.Proxy, *atomic.Int32) {
	t.Helper()
	address, lines := echo(t)
	return faultproxy.Start(t, address), lines
}

func dial(t *testing.T, proxy *faultproxy.Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", proxy.Address())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func send(t *testing.T, conn net.Conn, line string) {
	t.Helper()
	_, err := io.WriteString(conn, line+"\n")
	require.NoError(t, err)
}

// answer reads until a newline, for as long as given.
func answer(t *testing.T, conn net.Conn, within time.Duration) (string, error) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(within)))
	return bufio.NewReader(conn).ReadString('\n')
}

func requireEcho(t *testing.T, conn net.Conn) {
	t.Helper()
	send(t, conn, "hello")
	line, err := answer(t, conn, patience)
	require.NoError(t, err)
	require.Equal(t, "hello\n", line)
}

func requireSilence(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := answer(t, conn, 50*time.Millisecond)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func requireReset(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := answer(t, conn, patience)
	require.True(t, errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF), "%v", err)
}

// requireRefused requires that a new connection is reset, which may be seen before it is made.
func requireRefused(t *testing.T, proxy *faultproxy.Proxy) {
	t.Helper()
	conn, err := net.Dial("tcp", proxy.Address())
	if err != nil {
		require.ErrorIs(t, err, syscall.ECONNRESET)
		return
	}
	t.Cleanup(func() { _ = conn.Close() })
	requireReset(t, conn)
}

func TestProxy_PassesEverythingWithoutFaults(t *testing.T) {
	t.Parallel()
	proxy, _ := start(t)
	conn := dial(t, proxy)
	requireEcho(t, conn)
	require.Equal(t, 1, proxy.Connections())
	require.NoError(t, conn.Close())
	pgtest.Eventually(t, patience, "the connection is gone", func() bool { return proxy.Connections() == 0 })
}

func TestSwallow_LosesReplyOfCompletedAction(t *testing.T) {
	t.Parallel()
	proxy, lines := start(t)
	conn := dial(t, proxy)
	requireEcho(t, conn)
	proxy.Swallow(faultproxy.ToClient)
	send(t, conn, "lost")
	pgtest.Eventually(t, patience, "the reply is swallowed", func() bool { return proxy.Swallowed() == 5 })
	require.EqualValues(t, 2, lines.Load())
	proxy.Heal()
	requireSilence(t, conn)
	proxy.ResetAll()
	requireReset(t, conn)
	requireEcho(t, dial(t, proxy))
}

func TestStall_DelaysData(t *testing.T) {
	t.Parallel()
	for _, direction := range []faultproxy.Direction{faultproxy.ToServer, faultproxy.ToClient, faultproxy.Both} {
		proxy, lines := start(t)
		conn := dial(t, proxy)
		requireEcho(t, conn)
		proxy.Stall(direction)
		send(t, conn, "later")
		requireSilence(t, conn)
		require.Equal(t, direction == faultproxy.ToClient, lines.Load() == 2)
		proxy.Heal()
		line, err := answer(t, conn, patience)
		require.NoError(t, err)
		require.Equal(t, "later\n", line)
	}
}

func TestStall_MayEndInReset(t *testing.T) {
	t.Parallel()
	proxy, _ := start(t)
	conn := dial(t, proxy)
	proxy.Stall(faultproxy.Both)
	send(t, conn, "never")
	requireSilence(t, conn)
	proxy.ResetAll()
	requireReset(t, conn)
}

func TestOrphan_SilencesConnection(t *testing.T) {
	t.Parallel()
	proxy, lines := start(t)
	conn := dial(t, proxy)
	requireEcho(t, conn)
	proxy.Orphan()
	send(t, conn, "never")
	requireEcho(t, dial(t, proxy))
	proxy.Heal()
	requireSilence(t, conn)
	require.EqualValues(t, 2, lines.Load())
}

func TestCutAfter_EndsReplyInMiddle(t *testing.T) {
	t.Parallel()
	proxy, lines := start(t)
	conn := dial(t, proxy)
	proxy.CutAfter(faultproxy.ToClient, 3)
	send(t, conn, "hello")
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	got, err := io.ReadAll(conn)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	require.LessOrEqual(t, len(got), 3, "a reset may overtake what was sent before it")
	require.EqualValues(t, 1, lines.Load())
	requireEcho(t, dial(t, proxy))
}

func TestRefuse_ResetsConnections(t *testing.T) {
	t.Parallel()
	proxy, _ := start(t)
	old := dial(t, proxy)
	requireEcho(t, old)
	proxy.Refuse()
	requireRefused(t, proxy)
	requireEcho(t, old)
	proxy.Heal()
	requireEcho(t, dial(t, proxy))
}

func TestLatency_DelaysData(t *testing.T) {
	t.Parallel()
	proxy, _ := start(t)
	conn := dial(t, proxy)
	proxy.Latency(50 * time.Millisecond)
	began := time.Now()
	requireEcho(t, conn)
	require.GreaterOrEqual(t, time.Since(began), 100*time.Millisecond, "there and back")
}

func TestSetTarget_RedirectsNewConnections(t *testing.T) {
	t.Parallel()
	proxy, before := start(t)
	other, after := echo(t)
	requireEcho(t, dial(t, proxy))
	proxy.SetTarget(other)
	requireEcho(t, dial(t, proxy))
	require.EqualValues(t, 1, before.Load())
	require.EqualValues(t, 1, after.Load())
	proxy.SetTarget("127.0.0.1:1")
	requireRefused(t, proxy)
}
