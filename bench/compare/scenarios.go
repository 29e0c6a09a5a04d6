package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"

	"mirror/bench/drain"
	"mirror/bench/origin"
)

// unit is what a scenario counts.
type unit string

const (
	requests unit = "requests"
	content  unit = "bytes"
	seconds  unit = "seconds" // how long it takes: less is better
	resident unit = "memory"  // less is better
)

// scenario is one thing that servers are asked to do.
type scenario struct {
	name string
	unit unit
	// full: left out of the short profile. secure: through TLS. everywhere: under each congestion control.
	full, secure, everywhere bool
	// alone: each measurement has a server of its own, with the smallest image and nothing else. cold: and it has to pull, into
	// a cache that is limited to limitMiB if that is set.
	alone, cold bool
	limitMiB    int64
	run         func(ctx context.Context, s *stand, v *server) (figure, error)
}

// takes reports whether a target can do what the scenario asks for.
func (c scenario) takes(t target) bool {
	switch {
	case c.secure && !t.secure, c.cold && !t.fills, c.limitMiB > 0 && !t.bounded, c.unit != requests && t.small:
		return false
	}
	return true
}

// connections is how many clients ask at once where the name of a scenario says nothing else.
const connections = 64

// scenarios lists what is measured, in this order.
func scenarios() []scenario {
	all := []scenario{
		small("GET manifest by tag", manifest(http.MethodGet, true)),
		small("GET manifest by digest", manifest(http.MethodGet, false)),
		small("HEAD manifest by tag", manifest(http.MethodHead, true)),
		{name: "HEAD manifest by digest", unit: requests, full: true, run: runLoop(connections, requests, manifest(http.MethodHead, false))},
		small("GET 4 KB blob", layer("tiny", http.MethodGet)),
		small("HEAD 4 KB blob", layer("tiny", http.MethodHead)),
		{name: "TLS: GET manifest by tag", unit: requests, secure: true, run: runWRK(manifest(http.MethodGet, true))},
		{name: "TLS: GET 4 KB blob", unit: requests, secure: true, run: runWRK(layer("tiny", http.MethodGet))},
	}
	for _, n := range []int{1, 16, connections} {
		all = append(all, large("64 MiB layer", "middle", n, n == 16))
	}
	for _, n := range []int{1, 16, connections} {
		all = append(all, large("1 GiB layer", "large", n, n != connections))
	}
	return append(all,
		scenario{name: "1 MiB ranges", unit: requests, everywhere: true, run: runLoop(connections, requests, ranges)},
		scenario{name: "TLS: 64 MiB layer, 1 at once", unit: content, secure: true, run: runSealed(1), full: true},
		scenario{name: "TLS: 64 MiB layer, 16 at once", unit: content, secure: true, run: runSealed(16)},
		scenario{name: "slow readers: 100 at 1 MiB/s", unit: content, run: runSlow},
		scenario{name: "10,000 idle connections", unit: resident, alone: true, run: runIdle},
		scenario{name: "cold 1 GiB, open link", unit: seconds, alone: true, cold: true, run: runCold("large", origin.Link{}, origin.Faults{})},
		scenario{name: "cold 1 GiB, each blob cut after 300 MB", unit: seconds, alone: true, cold: true, full: true,
			run: runCold("large", origin.Link{}, origin.Faults{CutEvery: 1, CutAfter: 300e6})},
		scenario{name: "cold typical image, 20 ms and 100 MB/s each", unit: seconds, alone: true, cold: true, full: true,
			run: runCold("typical", shaped, origin.Faults{})},
		scenario{name: "herd of 50 on 150 MiB, open link", unit: seconds, alone: true, cold: true, run: runHerd(origin.Link{})},
		scenario{name: "herd of 50 on 150 MiB, 20 ms and 100 MB/s each", unit: seconds, alone: true, cold: true, full: true, run: runHerd(shaped)},
		scenario{name: "mixed 8 MiB layers, cache for two in five", unit: content, alone: true, cold: true, limitMiB: 128, run: runMixed},
	)
}

// shaped is a link as between a site and a registry.
var shaped = origin.Link{Latency: 20e6, Each: 100e6, All: 400e6}

// small is a scenario of small answers.
func small(name string, next next) scenario {
	return scenario{name: name, unit: requests, run: runLoop(connections, requests, next)}
}

// large is a scenario of long bodies.
func large(name, repository string, n int, full bool) scenario {
	return scenario{name: fmt.Sprintf("%s, %d at once", name, n), unit: content, full: full, everywhere: true, run: runLoop(n, content, layer(repository, http.MethodGet))}
}

// next makes what a connection asks for, one after the other.
type next func(s *stand) func(conn int) drain.Request

func manifest(method string, byTag bool) next {
	return func(s *stand) func(int) drain.Request {
		i := s.image("tiny")
		reference := i.Manifest.String()
		if byTag {
			reference = origin.Tag
		}
		return func(int) drain.Request {
			return drain.Request{Method: method, Path: i.ManifestPath(reference), Accept: origin.ManifestType}
		}
	}
}

// layer asks for the first layer of an image.
func layer(repository, method string) next {
	return func(s *stand) func(int) drain.Request {
		path := s.image(repository).LayerPath(0)
		return func(int) drain.Request { return drain.Request{Method: method, Path: path} }
	}
}

// ranges asks for parts of the longest layer, at random but the same for each server.
func ranges(s *stand) func(int) drain.Request {
	i, random := s.image("large"), rand.New(rand.NewPCG(1, 2))
	return func(int) drain.Request {
		from := random.Int64N(i.Sizes[0] - 1<<20)
		return drain.Request{Path: i.LayerPath(0), Range: fmt.Sprintf("bytes=%d-%d", from, from+1<<20-1), Status: http.StatusPartialContent}
	}
}
