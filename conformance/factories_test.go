package conformance_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/conformance"
)

// factory is one that is not fit for use, and what the suite says about it.
type factory struct {
	does string
	says string
	open conformance.Open
	on   string // the title of the case that says so, if not that of arrival
}

const arrival = "delivery/what is published arrives"

// replacing returns a factory whose peers are flawless but for what f does to them.
func replacing(f func(*conformance.Peer) (*conformance.Peer, error)) conformance.Open {
	return changing(func(s *conformance.System) *conformance.System {
		connect := s.Connect
		s.Connect = func(c conformance.PeerConfig) (*conformance.Peer, error) {
			p, err := connect(c)
			if err != nil {
				return nil, err
			}
			return f(p)
		}
		return s
	})
}

// changing returns a factory whose systems are flawless but for what f does to them.
func changing(f func(*conformance.System) *conformance.System) conformance.Open {
	open := openFaulty(fault{})
	return func(ctx context.Context) (*conformance.System, error) {
		s, err := open(ctx)
		if err != nil {
			return nil, err
		}
		return f(s), nil
	}
}

var errUnfit = errors.New("the broker is on holiday")

func factoriesOfSystems() []factory {
	return []factory{
		{
			does: "returns an error",
			says: "the factory: the broker is on holiday",
			open: func(context.Context) (*conformance.System, error) { return nil, errUnfit },
		},
		{
			does: "returns nil",
			says: "the factory returned a nil System",
			open: func(context.Context) (*conformance.System, error) { return nil, nil }, //nolint:nilnil // that is the flaw
		},
		{
			does: "returns an empty System",
			says: "a System without Connect",
			open: changing(func(*conformance.System) *conformance.System { return &conformance.System{} }),
		},
		{
			does: "panics",
			says: "the factory: panic: out of order, in github.com/ezq-go/ezq/conformance_test.factoriesOfSystems",
			open: func(context.Context) (*conformance.System, error) { panic("out of order") },
		},
		{
			does: "hangs",
			says: "the factory: it did not return within 30s",
			open: func(ctx context.Context) (*conformance.System, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
		},
		{
			does: "ends its goroutine, as FailNow does",
			says: "it ended its goroutine, as FailNow and SkipNow do",
			open: func(context.Context) (*conformance.System, error) {
				runtime.Goexit()
				return nil, nil //nolint:nilnil // never reached
			},
		},
		{
			does: "returns a System that cannot be closed",
			says: "System.Close: the broker is on holiday",
			open: changing(func(s *conformance.System) *conformance.System {
				s.Close = func() error { return errUnfit }
				return s
			}),
		},
		{
			does: "returns a System whose Close hangs",
			says: "System.Close: it did not return within 5m0s",
			open: changing(func(s *conformance.System) *conformance.System {
				s.Close = func() error {
					stall(time.Hour)
					return nil
				}
				return s
			}),
		},
		{
			does: "returns a System that leaves a goroutine",
			says: "goroutines are left 10s after everything was closed: 1 in github.com/ezq-go/ezq/conformance_test.stall",
			open: changing(func(s *conformance.System) *conformance.System {
				go stall(time.Hour)
				return s
			}),
		},
	}
}

func factoriesOfPeers() []factory {
	return []factory{
		{
			does: "cannot connect",
			says: "Connect: the broker is on holiday",
			open: replacing(func(*conformance.Peer) (*conformance.Peer, error) { return nil, errUnfit }),
		},
		{
			does: "connects to nothing",
			says: "Connect returned a nil Peer",
			open: replacing(func(*conformance.Peer) (*conformance.Peer, error) { return nil, nil }), //nolint:nilnil // that is the flaw
		},
		{
			does: "forgets the publisher",
			says: "or one without publisher or subscriber",
			open: replacing(func(p *conformance.Peer) (*conformance.Peer, error) {
				return &conformance.Peer{Subscriber: p.Subscriber}, nil
			}),
		},
		{
			does: "panics in Connect",
			says: "Connect: panic: out of order",
			open: replacing(func(*conformance.Peer) (*conformance.Peer, error) { panic("out of order") }),
		},
		{
			does: "hangs in Connect",
			says: "Connect: it did not return within 5m0s",
			open: replacing(func(p *conformance.Peer) (*conformance.Peer, error) {
				stall(time.Hour)
				return p, nil
			}),
		},
		{
			does: "promises transactions and has none",
			says: "a Peer without Begin",
			on:   "transactions/what is committed arrives",
			open: replacing(func(p *conformance.Peer) (*conformance.Peer, error) {
				p.Begin = nil
				return p, nil
			}),
		},
		{
			does: "returns an incomplete transaction",
			says: "Begin returned an incomplete Tx",
			on:   "transactions/what is committed arrives",
			open: replacing(func(p *conformance.Peer) (*conformance.Peer, error) {
				p.Begin = func(context.Context) (*conformance.Tx, error) { return &conformance.Tx{}, nil }
				return p, nil
			}),
		},
		{
			does: "connects all processes to one",
			says: "Connect returned a publisher that it had returned before, to the case \"stopping/Close loses nothing\"",
			on:   "stopping/Close loses nothing",
			open: changing(func(s *conformance.System) *conformance.System {
				p, err := s.Connect(conformance.PeerConfig{})
				s.Connect = func(conformance.PeerConfig) (*conformance.Peer, error) { return p, err }
				return s
			}),
		},
		{
			does: "has a subscriber without channels",
			says: "Subscribe returned a nil channel",
			open: replacing(func(p *conformance.Peer) (*conformance.Peer, error) {
				p.Subscriber = &subscriberFunc{of: p.Subscriber, channel: func() chan *message.Message { return nil }}
				return p, nil
			}),
		},
		{
			does: "has a subscriber that ends at once",
			says: "the subscription ended while a message was awaited",
			open: replacing(func(p *conformance.Peer) (*conformance.Peer, error) {
				p.Subscriber = &subscriberFunc{of: p.Subscriber, channel: func() chan *message.Message {
					c := make(chan *message.Message)
					close(c)
					return c
				}}
				return p, nil
			}),
		},
		{
			does: "has a subscriber that delivers nil",
			says: "the subscription delivered a nil message",
			open: replacing(func(p *conformance.Peer) (*conformance.Peer, error) {
				p.Subscriber = &subscriberFunc{of: p.Subscriber, channel: func() chan *message.Message {
					c := make(chan *message.Message, 1)
					c <- nil
					return c
				}}
				return p, nil
			}),
		},
	}
}

// subscriberFunc is a subscriber whose channels come from elsewhere.
type subscriberFunc struct {
	of      message.Subscriber
	channel func() chan *message.Message
}

func (s *subscriberFunc) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	return s.channel(), nil
}

func (s *subscriberFunc) Close() error { return s.of.Close() }

func TestFactory_WhenBadIsNamed(t *testing.T) {
	t.Parallel()
	for _, f := range append(factoriesOfSystems(), factoriesOfPeers()...) {
		t.Run("a factory that "+f.does, func(t *testing.T) {
			t.Parallel()
			title := f.on
			if title == "" {
				title = arrival
			}
			r := conformance.RunCase(t, f.open, everyPromise(), casesByTitle()[title], conformance.Timeout(mutantLimit))
			require.Equal(t, conformance.Failed, r.Outcome)
			require.Equal(t, title, r.Theme+"/"+r.Name)
			require.Contains(t, r.Failure, f.says)
		})
	}
}

// These are about several cases, so they run in real time.

func onlyPayload(c conformance.Case) bool { return c.Theme == "payload" || c.Title() == arrival }

func TestFactory_FailingOnceFailsOneCase(t *testing.T) {
	t.Parallel()
	for does, once := range map[string]func(context.Context) error{
		"returns an error": func(context.Context) error { return errUnfit },
		"panics":           func(context.Context) error { panic("out of order") },
		"hangs": func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		},
	} {
		t.Run("a factory that "+does, func(t *testing.T) {
			t.Parallel()
			var first sync.Once
			open := func(ctx context.Context) (s *conformance.System, err error) {
				if first.Do(func() { err = errUnfit }); err != nil {
					return nil, once(ctx)
				}
				return openMemory(ctx)
			}
			results := conformance.Check(t.Context(), open, conformance.Promises{Features: everyFeature(), Durable: true, Selection: true, Pauses: true, DeadLetterStore: true, Inspection: true, GroupPauses: true},
				conformance.Only(onlyPayload), conformance.Timeout(5*time.Second))
			require.Len(t, results.Failed(), 1)
			require.Contains(t, results.Failed()[0].Failure, "the factory")
			require.Equal(t, len(results)-1, results.Count(conformance.Passed))
		})
	}
}

func TestFactory_SharingPublisherIsNamed(t *testing.T) {
	t.Parallel()
	var once sync.Once
	var shared *conformance.Peer
	open := func(ctx context.Context) (*conformance.System, error) {
		s, err := openMemory(ctx)
		if err != nil {
			return nil, err
		}
		connect := s.Connect
		s.Connect = func(c conformance.PeerConfig) (_ *conformance.Peer, err error) {
			once.Do(func() { shared, err = connect(c) })
			return shared, err
		}
		return s, nil
	}
	results := conformance.Check(t.Context(), open, conformance.Promises{Features: everyFeature(), Durable: true, Selection: true, Pauses: true, DeadLetterStore: true, Inspection: true, GroupPauses: true},
		conformance.Only(onlyPayload), conformance.Parallel(1))
	require.NotEmpty(t, results.Failed())
	for _, r := range results.Failed() {
		require.Contains(t, r.Failure, "it had returned before, to the case")
	}
}

// Virtual time stands still while a goroutine waits for a mutex.
func TestCase_HangingInMutexEnds(t *testing.T) {
	t.Parallel()
	var held sync.Mutex
	held.Lock()
	t.Cleanup(held.Unlock)
	open := replacing(func(p *conformance.Peer) (*conformance.Peer, error) {
		held.Lock()
		defer held.Unlock()
		return p, nil
	})
	r := conformance.RunCase(t, open, everyPromise(), casesByTitle()[arrival], conformance.Timeout(100*time.Millisecond))
	require.Equal(t, conformance.Failed, r.Outcome)
	require.Contains(t, r.Failure, "the case hangs, and virtual time with it")
	require.Contains(t, r.Failure, "in Connect")
}
