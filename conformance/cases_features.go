package conformance

import "github.com/ezq-go/ezq/backend"

func features() []Case {
	return theme("features",
		promise("a backend says what it promises",
			"A publisher or a subscriber that has a Features method returns what is promised here, each time.",
			0, saysWhatItPromises),
	)
}

func saysWhatItPromises(h *harness) {
	p := connect(h, PeerConfig{})
	for range 2 {
		requireFeatures(h, "publisher", p.Publisher)
		requireFeatures(h, "subscriber", p.Subscriber)
		p.initialize(h.topic())
	}
}

func requireFeatures(h *harness, what string, half any) {
	if featured, ok := half.(interface{ Features() backend.Features }); ok {
		h.require(featured.Features() == h.promises.Features,
			"the %s says that its features are %+v, and %+v are promised", what, featured.Features(), h.promises.Features)
	}
}
