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

func (p *Proxy) serve(client net.Conn) {
	c := &connection{client: client, gone: make(chan struct{})}
	p.mu.Lock()
	target, refuse := p.target, p.refusing || p.closed
	p.mu.Unlock()
	if refuse {
		reset(client)
		return
	}
	server, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		reset(client)
		return
	}
	c.server = server
	if !p.add(c) {
		c.reset()
		return
	}
	var passing sync.WaitGroup
	passing.Go(func() { p.pass(c, client, server, ToServer) })
	passing.Go(func() { p.pass(c, server, client, ToClient) })
	passing.Wait()
	c.reset()
	p.mu.Lock()
	delete(p.connections, c)
	p.mu.Unlock()
}

func (p *Proxy) add(c *connection) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.connections[c] = true
	return true
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

// pass copies from one side to the other until either ends or the connection is reset.
func (p *Proxy) pass(c *connection, from, to net.Conn, d Direction) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			allowed, ok := p.await(c, d, n)
			if !ok {
				return
			}
			if _, err := to.Write(buffer[:allowed]); err != nil {
				c.reset()
				return
			}
			if allowed < n && !p.drops(d) {
				c.reset()
				return
			}
		}
		if err != nil {
			p.hangUp(c, to, d)
			return
		}
	}
}

// hangUp passes on that one side has ended, when that gets through.
func (p *Proxy) hangUp(c *connection, to net.Conn, d Direction) {
	if _, ok := p.await(c, d, 0); !ok || p.drops(d) {
		return
	}
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}

// await waits until n bytes may pass and returns how many of them do. ok is false if the
// connection was reset meanwhile.
func (p *Proxy) await(c *connection, d Direction, n int) (allowed int, ok bool) {
	if !c.pause(p.delay()) {
		return 0, false
	}
	for {
		p.mu.Lock()
		if !p.stalled[d] && !c.orphan {
			allowed = p.take(d, n)
			p.mu.Unlock()
			return allowed, true
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-c.gone:
			return 0, false
		}
	}
}

// take says how many of n bytes pass, and counts them.
func (p *Proxy) take(d Direction, n int) int {
	switch {
	case p.swallowing[d]:
		p.swallowed += int64(n)
		return 0
	case p.cut[d] < 0:
		return n
	case int64(n) <= p.cut[d]:
		p.cut[d] -= int64(n)
		return n
	}
	n = int(p.cut[d])
	p.cut[d] = -1
	return n
}

func (p *Proxy) drops(d Direction) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.swallowing[d]
}

func (p *Proxy) delay() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.latency
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
