package conformance

import "github.com/ezq-go/ezq/backend"

func features() []Case {
	return theme("features",
		promise("a backend says what it promises",
			"A publisher or a subscriber that has a Features method returns what is promised here, each time.",
			0, saysWhatItPromises),
	)
}

func saysWhatItPromises(b *bench) {
	p := b.connect(Options{})
	for range 2 {
		b.requireFeatures("publisher", p.Publisher)
		b.requireFeatures("subscriber", p.Subscriber)
		p.initialize(b.topic())
	}
}

func (b *bench) requireFeatures(what string, half any) {
	if said, ok := half.(interface{ Features() backend.Features }); ok {
		b.require(said.Features() == b.promises.Features,
			"the %s says that its features are %+v, and %+v are promised", what, said.Features(), b.promises.Features)
	}
}
