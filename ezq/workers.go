package ezq

// workers are goroutines that handle events, each of them one after the other. To
// decode an event, a new goroutine would have to grow its stack, which takes longer
// than decoding.
type workers chan *task

// start has a worker handle an event: one that has nothing to do, or else a new one.
func (t *taker) start(k *task) {
	t.handlers.Add(1)
	select {
	case t.workers <- k:
	default:
		go t.work(k)
	}
}

// work handles k, and what comes next, until the taker takes no more.
func (t *taker) work(k *task) {
	for ok := true; ok; k, ok = <-t.workers {
		t.finish(k)
	}
}

func (t *taker) finish(k *task) {
	defer t.handlers.Done() // a handler may end its goroutine
	t.handle(k)
}
