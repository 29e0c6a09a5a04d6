package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"mirror/bench/drain"
	"mirror/bench/origin"
)

const (
	herd = 50
	// afterwards is how long a server is watched after a cold pull: some store what they have passed on.
	afterwards = time.Second
	// mixers is how many clients pull from a cache that does not hold everything.
	mixers = 16
)

// runCold pulls an image that the server does not hold, its layers at once, as a client does.
func runCold(repository string, link origin.Link, faults origin.Faults) runner {
	return func(ctx context.Context, s *stand, v *server) (figure, error) {
		i := s.image(repository)
		return s.pullCold(ctx, v, i, link, faults, layersOf(i))
	}
}

// runHerd has many clients pull a layer at the same moment that the server does not hold.
func runHerd(link origin.Link) runner {
	return func(ctx context.Context, s *stand, v *server) (figure, error) {
		i := s.image("herd")
		paths := slices.Repeat([]string{i.LayerPath(0)}, herd)
		return s.pullCold(ctx, v, i, link, origin.Faults{}, paths)
	}
}

// pullCold pulls the manifest and then all paths at once, and watches the server until it has rest.
func (s *stand) pullCold(ctx context.Context, v *server, i *origin.Image, link origin.Link, faults origin.Faults, paths []string) (f figure, err error) {
	s.origin.Shape(link, faults)
	defer s.origin.Shape(origin.Link{}, origin.Faults{})
	if err := takeMemory(2*sum(i.Sizes) + besides); err != nil {
		return f, err
	}
	w, err := s.open(v)
	if err != nil {
		return f, err
	}
	if err := v.check(ctx, i.ManifestPath(origin.Tag), i.Manifest); err != nil {
		return f, err
	}
	begun := time.Now()
	all, err := pullAll(ctx, v, paths)
	if err != nil {
		return f, err
	}
	f.Elapsed = time.Since(begun)
	time.Sleep(afterwards)
	f.First, f.P50, f.P99 = summary(all)
	f.Count = float64(sum(i.Sizes))
	f.Egress = float64(s.origin.Counts().Sent) / f.Count
	return f, w.close(&f)
}

// pullAll pulls paths at once, each over a connection of its own.
func pullAll(ctx context.Context, v *server, paths []string) ([]drain.Got, error) {
	all, errs := make([]drain.Got, len(paths)), make([]error, len(paths))
	var wg sync.WaitGroup
	for n, path := range paths {
		wg.Go(func() { all[n], errs[n] = drain.Once(ctx, v.Address, drain.Request{Path: path}) })
	}
	wg.Wait()
	return all, errors.Join(errs...)
}

// summary returns the median of the first bytes, and median and 99th percentile of whole answers.
func summary(all []drain.Got) (first, p50, p99 time.Duration) {
	slices.SortFunc(all, func(a, b drain.Got) int { return int(a.First - b.First) })
	first = all[len(all)/2].First
	slices.SortFunc(all, func(a, b drain.Got) int { return int(a.All - b.All) })
	return first, all[len(all)/2].All, all[(len(all)*99-1)/100].All
}

func sum(sizes []int64) (total int64) {
	for _, n := range sizes {
		total += n
	}
	return total
}

// runMixed pulls layers at random, some far more often than others, from a cache that holds two in five of them.
func runMixed(ctx context.Context, s *stand, v *server) (f figure, err error) {
	i := s.image("mixed")
	popular := rand.NewZipf(rand.New(rand.NewPCG(3, 4)), 1.1, 1, uint64(len(i.Layers)-1))
	var w window
	result, err := drain.Run(ctx, drain.Load{Address: v.Address, Connections: mixers, For: 2 * s.turn, WarmUp: s.turn,
		Next: func(int) drain.Request { return drain.Request{Path: i.LayerPath(int(popular.Uint64()))} },
		Begin: func() (err error) {
			s.origin.Shape(origin.Link{}, origin.Faults{})
			w, err = s.open(v)
			return err
		},
		End: func() error { return w.close(&f) }})
	if err != nil {
		return f, err
	}
	f.Count, f.Elapsed = float64(result.Bytes), result.Elapsed
	f.P50, f.P99 = result.Latency.Quantile(0.5), result.Latency.Quantile(0.99)
	f.Egress = float64(s.origin.Counts().Sent) / f.Count
	return f, nil
}

func layersOf(i *origin.Image) (paths []string) {
	for n := range i.Layers {
		paths = append(paths, i.LayerPath(n))
	}
	return paths
}
