package main

import "time"

// figure is what one measurement shows. What does not apply is zero.
type figure struct {
	Scenario string
	Target   string
	Network  string
	Round    int
	// Failed says why there is no figure; nothing else is set then.
	Failed string `json:",omitempty"`

	// Count is how many units of the scenario came, requests or bytes, in Elapsed.
	Count   float64
	Elapsed time.Duration
	// CPU is what the server's processes used for that.
	CPU time.Duration
	// P50 and P99 are times of whole answers; First is the median of the times to the first byte, as the client saw it.
	P50, P99, First time.Duration `json:",omitempty"`
	// Memory and Peak are the resident bytes of the server's processes after the measurement, and the most during it.
	Memory, Peak int64
	// Egress is how many bytes came from the origin for each byte of content that clients asked for; in a
	// herd the content counts once.
	Egress float64 `json:",omitempty"`
	// Others is the share of the server's core that other processes had meanwhile.
	Others float64
}

// rate returns units per second.
func (f figure) rate() float64 { return per(f.Count, f.Elapsed) }

// perCPU returns units per second of the server's CPU time.
func (f figure) perCPU() float64 { return per(f.Count, f.CPU) }

func per(count float64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return count / d.Seconds()
}

// window measures what the server and its core do between two moments.
type window struct {
	server    *server
	core      int
	begun     time.Time
	cpu, busy time.Duration
}

// open begins a window.
func (s *stand) open(v *server) (w window, err error) {
	w = window{server: v, core: s.serverCore, begun: time.Now()}
	if w.cpu, err = v.cpu(); err != nil {
		return w, err
	}
	v.forgetPeak()
	w.busy, err = busy(w.core)
	return w, err
}

// close ends a window and puts what it shows into f.
func (w window) close(f *figure) error {
	cpu, err := w.server.cpu()
	if err != nil {
		return err
	}
	worked, err := busy(w.core)
	if err != nil {
		return err
	}
	elapsed := time.Since(w.begun)
	f.CPU = cpu - w.cpu
	f.Others = max(0, (worked-w.busy-f.CPU).Seconds()/elapsed.Seconds())
	if f.Elapsed == 0 {
		f.Elapsed = elapsed
	}
	f.Memory, f.Peak = w.server.memory()
	return nil
}
