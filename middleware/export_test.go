package middleware

// Size returns how many keys s holds, those included whose window has ended since the last Mark.
func Size(s *MemoryStore) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.keys)
}
