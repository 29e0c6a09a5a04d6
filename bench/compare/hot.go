package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"time"

	"mirror/bench/drain"
)

type runner func(ctx context.Context, s *stand, v *server) (figure, error)

// warmUp is how long a server is loaded before it is measured.
const warmUp = 200 * time.Millisecond

// runLoop loads a server with n connections that ask without a pause, and counts requests or bytes.
func runLoop(n int, u unit, next next) runner {
	return func(ctx context.Context, s *stand, v *server) (f figure, err error) {
		var w window
		result, err := drain.Run(ctx, drain.Load{Address: v.Address, Connections: n, For: s.turn, WarmUp: warmUp, Next: next(s),
			Begin: func() (err error) { w, err = s.open(v); return err },
			End:   func() error { return w.close(&f) }})
		if err != nil {
			return f, err
		}
		f.Count, f.Elapsed = float64(result.Requests), result.Elapsed
		if u == content {
			f.Count = float64(result.Bytes)
		}
		f.P50, f.P99 = result.Latency.Quantile(0.5), result.Latency.Quantile(0.99)
		return f, nil
	}
}

// runWRK loads a server through TLS with wrk.
func runWRK(next next) runner {
	return func(ctx context.Context, s *stand, v *server) (f figure, err error) {
		ask := next(s)(0)
		w, err := s.open(v)
		if err != nil {
			return f, err
		}
		out, err := exec.CommandContext(ctx, "wrk", "-t", "1", "-c", strconv.Itoa(connections), "-d", fmt.Sprintf("%ds", max(1, int(s.turn.Seconds()))), "--latency",
			"-H", "Accept: "+cmp.Or(ask.Accept, "*/*"), v.url(ask.Path)).CombinedOutput()
		if err != nil {
			return f, fmt.Errorf("wrk: %w\n%s", err, out)
		}
		if err := w.close(&f); err != nil {
			return f, err
		}
		return f, f.takeWRK(out)
	}
}

var (
	wrkTotal = regexp.MustCompile(`(\d+) requests in ([0-9.]+[a-z]+),`)
	wrkP50   = regexp.MustCompile(`50% +([0-9.]+[a-z]+)`)
	wrkP99   = regexp.MustCompile(`99% +([0-9.]+[a-z]+)`)
)

// takeWRK reads what wrk prints.
func (f *figure) takeWRK(out []byte) (err error) {
	total, p50, p99 := wrkTotal.FindSubmatch(out), wrkP50.FindSubmatch(out), wrkP99.FindSubmatch(out)
	if total == nil || p50 == nil || p99 == nil || bytes.Contains(out, []byte("Non-2xx")) || bytes.Contains(out, []byte("Socket errors")) {
		return fmt.Errorf("wrk says: %s", bytes.ReplaceAll(out, []byte("\n"), []byte(" ")))
	}
	var errs [4]error
	f.Count, errs[0] = strconv.ParseFloat(string(total[1]), 64)
	f.Elapsed, errs[1] = time.ParseDuration(string(total[2]))
	f.P50, errs[2] = time.ParseDuration(string(p50[1]))
	f.P99, errs[3] = time.ParseDuration(string(p99[1]))
	return errors.Join(errs[:]...)
}

// runSealed pulls 64 MiB layers through TLS with n clients, each over connection after connection, until the time is over.
// What is under way then is finished, and counts.
func runSealed(n int) runner {
	return func(ctx context.Context, s *stand, v *server) (f figure, err error) {
		image := s.image("middle")
		w, err := s.open(v)
		if err != nil {
			return f, err
		}
		var mu sync.Mutex
		err = together(n, func() error {
			for until := w.begun.Add(s.turn); time.Now().Before(until); {
				got, err := drain.OnceTLS(ctx, v.Address, s.clientTLS(), drain.Request{Path: image.LayerPath(0)}, image.Sizes[0])
				if err != nil {
					return err
				}
				mu.Lock()
				f.Count += float64(got.Bytes)
				mu.Unlock()
			}
			return nil
		})
		return f, errors.Join(err, w.close(&f))
	}
}

// together calls f n times at once, and returns what went wrong.
func together(n int, f func() error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f() })
	}
	wg.Wait()
	return errors.Join(errs...)
}
