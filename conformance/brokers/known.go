package brokers

// Known says why a foreign Pub/Sub fails a case that it promises, or that holds for
// every Pub/Sub, by the title of the case. Many of them depend on timing, so it is no
// failure of the test if they do not show. Ours have none.
func Known(backend string) map[string]string {
	return map[string]map[string]string{}[backend]
}
