package conformance

import "slices"

// Cases returns the whole suite, theme by theme.
func Cases() []Case {
	return slices.Concat(
		delivery(), payload(), topics(), redelivery(), delays(), ordering(), leases(), groups(), patterns(),
		transactions(), deadLetters(), ticks(), conditions(), storedMessages(), storedDeadLetters(), pauses(), groupPauses(), inspection(), peeks(), lifecycle(), stopping(), hostile(), features(),
		handling(), routerDeadLetters(), control(), stoppingRouters(),
	)
}
