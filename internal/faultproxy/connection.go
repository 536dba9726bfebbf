package faultproxy

import (
	"net"
	"sync"
	"time"
)

// connection is one connection that is passed on.
type connection struct {
	client, server net.Conn
	gone           chan struct{} // closed when it is reset
	orphan         bool          // guarded by the proxy's mutex
	once           sync.Once
}

// reset ends the connection as a crash would: the other sides get RST, not FIN.
func (c *connection) reset() {
	c.once.Do(func() {
		close(c.gone)
		reset(c.client)
		reset(c.server)
	})
}

func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// pause waits for d. It is false if the connection was reset meanwhile.
func (c *connection) pause(d time.Duration) bool {
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.gone:
		return false
	}
}
