// Package faultproxy is a network that fails on command: a TCP proxy between a client and a server
// that can delay, stall, swallow, reset, refuse and cut what passes.
//
// It can produce what no other fault can be relied on to produce: a server that has carried out a
// request, and whose reply is lost (Swallow with ToClient, and then ResetAll).
package faultproxy

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"
)

// Direction is where bytes go.
type Direction int

// The directions.
const (
	ToServer Direction = iota
	ToClient
	Both
)

func (d Direction) covers(other Direction) bool { return d == Both || d == other }

// Proxy passes connections on to a target. Its methods may be called at any time and concurrently,
// and apply to connections that are open as well as to those to come.
type Proxy struct {
	listener net.Listener
	running  sync.WaitGroup

	mu          sync.Mutex
	changed     chan struct{} // closed when what is below changes
	closed      bool
	target      string
	refusing    bool
	latency     time.Duration
	stalled     [2]bool
	swallowing  [2]bool
	swallowed   int64
	cut         [2]int64 // bytes that may still pass; negative: any number
	connections map[*connection]bool
}

// Start returns a proxy that passes connections on to the address target. It is closed when the
// test ends.
func Start(tb testing.TB, target string) *Proxy {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{
		listener: listener, target: target, changed: make(chan struct{}),
		cut: [2]int64{-1, -1}, connections: map[*connection]bool{},
	}
	p.running.Go(p.accept)
	tb.Cleanup(p.close)
	return p
}

// Address is where clients connect to.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// SetTarget passes new connections on to another address.
func (p *Proxy) SetTarget(target string) { p.set(func() { p.target = target }) }

// Latency delays everything that passes, in both directions, by d for each chunk.
func (p *Proxy) Latency(d time.Duration) { p.set(func() { p.latency = d }) }

// Refuse resets new connections as soon as they are made.
func (p *Proxy) Refuse() { p.set(func() { p.refusing = true }) }

// Stall delays everything that goes in that direction, until Heal: with Both, a network that
// is gone without a word. Connections stay open, and new ones seem to be made.
func (p *Proxy) Stall(d Direction) {
	p.set(func() { each(d, func(i Direction) { p.stalled[i] = true }) })
}

// Swallow drops everything that goes in that direction. A connection that has lost something is
// never whole again: ResetAll ends it.
func (p *Proxy) Swallow(d Direction) {
	p.set(func() { p.swallowed = 0; each(d, func(i Direction) { p.swallowing[i] = true }) })
}

// Swallowed returns how many bytes were dropped since Swallow.
func (p *Proxy) Swallowed() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.swallowed
}

// CutAfter lets n more bytes pass in that direction, all connections together. The connection on
// which the next byte would have to pass is reset, once; then the network is whole.
func (p *Proxy) CutAfter(d Direction, n int64) {
	p.set(func() { each(d, func(i Direction) { p.cut[i] = n }) })
}

// Orphan makes all open connections pass nothing any more, ever, without a word: each side goes on
// to believe in them. New connections are not concerned.
func (p *Proxy) Orphan() {
	p.set(func() {
		for c := range p.connections {
			c.orphan = true
		}
	})
}

// ResetAll resets all connections, on both sides.
func (p *Proxy) ResetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.connections {
		c.reset()
	}
}

// Heal ends all faults. Stalled bytes pass; dropped bytes stay lost.
func (p *Proxy) Heal() {
	p.set(func() {
		p.refusing, p.latency = false, 0
		p.stalled, p.swallowing, p.cut = [2]bool{}, [2]bool{}, [2]int64{-1, -1}
	})
}

// Connections returns how many connections are open.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.connections)
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

func each(d Direction, do func(Direction)) {
	for _, i := range []Direction{ToServer, ToClient} {
		if d.covers(i) {
			do(i)
		}
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			p.running.Go(func() { p.serve(client) })
		}
	}
}

func (p *Proxy) close() {
	p.set(func() { p.closed = true })
	_ = p.listener.Close()
	p.ResetAll()
	p.running.Wait()
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
	passing.Go(func() { p.forward(c, client, server, ToServer) })
	passing.Go(func() { p.forward(c, server, client, ToClient) })
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

// forward copies from one side to the other until either ends or the connection is reset.
func (p *Proxy) forward(c *connection, from, to net.Conn, d Direction) {
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
			if allowed < n && !p.isSwallowing(d) {
				c.reset()
				return
			}
		}
		if err != nil {
			p.closeWrite(c, to, d)
			return
		}
	}
}

// closeWrite passes on that one side has ended, when that gets through.
func (p *Proxy) closeWrite(c *connection, to net.Conn, d Direction) {
	if _, ok := p.await(c, d, 0); !ok || p.isSwallowing(d) {
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
			allowed = p.allowance(d, n)
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

// allowance says how many of n bytes pass, and counts them.
func (p *Proxy) allowance(d Direction, n int) int {
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

func (p *Proxy) isSwallowing(d Direction) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.swallowing[d]
}

func (p *Proxy) delay() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.latency
}
