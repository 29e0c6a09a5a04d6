package main

import "fmt"

// seed makes the traces; another one gives other numbers and the same order of policies.
const seed = 20261121

// policy is a cache of blobs. Blobs larger than its limit are not put to it.
type policy interface {
	// use asks for a blob at a time in seconds since 1970, and takes it in when it is missing.
	use(b blob, now int64) (hit bool)
}

// policies are compared in this order.
var policies = []struct {
	name string
	make func(limit int64) policy
}{
	{"LRU", newLRU},
	{"SLRU", newSLRU},
	{"S3-FIFO", newS3FIFO},
	{"GDSF", newGDSF(1)},
	{"GDSF, root of size", newGDSF(0.5)},
	{"heat", newOurs},
}

// ratio counts hits.
type ratio struct{ hits, requests, hitBytes, bytes int64 }

func (r *ratio) add(hit bool, size int64) {
	r.requests++
	r.bytes += size
	if hit {
		r.hits++
		r.hitBytes += size
	}
}

func (r *ratio) byRequests() float64 { return 100 * float64(r.hits) / float64(r.requests) }
func (r *ratio) byBytes() float64    { return 100 * float64(r.hitBytes) / float64(r.bytes) }

// run puts a trace to a policy.
func run(p policy, limit int64, trace []request) ratio {
	var r ratio
	for _, q := range trace {
		hit := q.size <= limit && p.use(q.blob, q.at)
		if q.counts {
			r.add(hit, q.size)
		}
	}
	return r
}

func main() {
	catalogue := newRegistry(seed).bytes()
	daily, rollout := dailyTrace(seed), rolloutTrace(seed)
	fmt.Printf("%d images, %.0f GB, seed %d; hit ratios in percent, by requests / by bytes\n\n", images, float64(catalogue)/1e9, seed)
	fmt.Println("| cache | policy | daily | rollout | large | during scan | without scan | lost by scan |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, percent := range []int64{5, 10, 25} {
		limit := catalogue * percent / 100
		large, scan, quiet := largeTrace(seed, limit), scanTrace(seed, 10*limit), scanTrace(seed, 0)
		for _, p := range policies {
			f := func(trace []request) ratio { return run(p.make(limit), limit, trace) }
			row(fmt.Sprintf("%d %%", percent), p.name, f(daily), f(rollout), f(large), f(scan), f(quiet))
		}
	}
}

func row(size, name string, daily, rollout, large, scan, quiet ratio) {
	fmt.Printf("| %s | %s |", size, name)
	for _, r := range []ratio{daily, rollout, large, scan, quiet} {
		fmt.Printf(" %.1f / %.1f |", r.byRequests(), r.byBytes())
	}
	fmt.Printf(" %.1f / %.1f |\n", 100-100*scan.byRequests()/quiet.byRequests(), 100-100*scan.byBytes()/quiet.byBytes())
}
