package origin

// Faults are what a registry does wrong. The zero value does nothing wrong.
type Faults struct {
	// RefuseEvery answers each request of this number with 503; zero is never.
	RefuseEvery int64
	// CutEvery ends each blob of this number early, after CutAfter bytes; zero is never.
	CutEvery, CutAfter int64
}

func (f Faults) refuses(number int64) bool { return f.RefuseEvery > 0 && number%f.RefuseEvery == 0 }

// most returns how many of n bytes the blob with this number gets.
func (f Faults) most(number, n int64) int64 {
	if f.CutEvery > 0 && number%f.CutEvery == 0 {
		return min(n, f.CutAfter)
	}
	return n
}
