package sizing

// DefaultBudget is what all tables may grow to together unless it is configured:
// a sixty-fourth of the memory, but at least 128 MiB and at most 1 GiB. What the
// tables take at start always has room twice, so that the largest can move.
func DefaultBudget(memory uint64, s Sizes) uint64 {
	const least, most = 128 << 20, 1 << 30
	return max(min(max(memory/64, least), most), 2*s.Empty())
}
