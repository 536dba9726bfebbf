package conformance

import "github.com/ezq-go/ezq/backend"

func features() []Case {
	return theme("features",
		promise("a backend says what it promises",
			"A publisher or a subscriber that has a Features method returns what is promised here, each time; the publisher has the methods for Selection, Pauses, DeadLetterStore, Inspection and GroupPauses if these are promised, and else has not.",
			0, saysWhatItPromises),
	)
}

func saysWhatItPromises(h *harness) {
	p := connect(h, PeerConfig{})
	for range 2 {
		requireFeatures(h, "publisher", p.Publisher)
		requireFeatures(h, "subscriber", p.Subscriber)
		requireMethods(h, p.Publisher)
		p.initialize(h.topic())
	}
}

func requireFeatures(h *harness, what string, half any) {
	if featured, ok := half.(interface{ Features() backend.Features }); ok {
		h.require(featured.Features() == h.promises.Features,
			"the %s says that its features are %+v, and %+v are promised", what, featured.Features(), h.promises.Features)
	}
}

func requireMethods(h *harness, publisher any) {
	_, selects := publisher.(selecting)
	h.require(selects == h.promises.Selection,
		"that the publisher is a backend.Finder, Canceller and Rescheduler is %v, and that Selection is promised is %v", selects, h.promises.Selection)
	_, pauses := publisher.(backend.Pauser)
	_, stores := publisher.(backend.DeadLetterStore)
	h.require(stores == h.promises.DeadLetterStore,
		"that the publisher is a backend.DeadLetterStore is %v, and that DeadLetterStore is promised is %v", stores, h.promises.DeadLetterStore)
	_, inspects := publisher.(backend.Inspector)
	h.require(inspects == h.promises.Inspection, "that the publisher is a backend.Inspector is %v, and that Inspection is promised is %v", inspects, h.promises.Inspection)
	_, pausesGroups := publisher.(backend.GroupPauser)
	h.require(pausesGroups == h.promises.GroupPauses, "that the publisher is a backend.GroupPauser is %v, and that GroupPauses is promised is %v", pausesGroups, h.promises.GroupPauses)
	h.require(pauses == h.promises.Pauses, "that the publisher is a backend.Pauser is %v, and that Pauses is promised is %v", pauses, h.promises.Pauses)
}
