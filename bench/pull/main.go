package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"mirror/bench/origin"
	"mirror/internal/units"
)

// scenario is one kind of link, and how many pull at once.
type scenario struct {
	name    string
	size    units.Bytes
	link    origin.Link
	clients int
}

// registry is the origin with the one image in it.
type registry struct {
	*origin.Registry
	image *origin.Image
}

// pulled is how one pull went.
type pulled struct{ first, all time.Duration }

func main() {
	rounds := flag.Int("rounds", 3, "how often each pull is made; direct and through the mirror take turns")
	size := units.GiB
	flag.TextVar(&size, "size", size, "length of the layer")
	flag.Parse()
	if err := run(context.Background(), *rounds, size); err != nil {
		fmt.Fprintln(os.Stderr, "pull:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int, size units.Bytes) error {
	dir, err := os.MkdirTemp("", "mirror-pull-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "mirror")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/mirror")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build mirror (run this in the root of the repository): %w\n%s", err, out)
	}
	image := &origin.Image{Repository: "bench/app", Sizes: []int64{int64(size)}}
	if err := image.Make(dir); err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	r, err := origin.Serve(dir, origin.Link{})
	if err != nil {
		return err
	}
	defer r.Close()
	fmt.Println("| link | clients | direct, one connection: first byte, all | through the mirror: first byte, all | ratio | requests | egress |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, s := range []scenario{
		{"30 ms, 100 MB/s each", size, origin.Link{Latency: 30 * time.Millisecond, Each: 100e6}, 1},
		{"30 ms, 50 MB/s each, 250 MB/s in all", size, origin.Link{Latency: 30 * time.Millisecond, Each: 50e6, All: 250e6}, 8},
		{"30 ms, 100 MB/s in all", size, origin.Link{Latency: 30 * time.Millisecond, Each: 100e6, All: 100e6}, 1},
	} {
		if err := compare(ctx, s, &registry{r, image}, rounds, program, dir); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// compare prints the medians of interleaved rounds.
func compare(ctx context.Context, s scenario, r *registry, rounds int, program, dir string) error {
	var direct, mirrored []pulled
	var requests, sent int64
	for range rounds {
		r.Shape(s.link, origin.Faults{})
		p, err := pull("http://"+r.Address(), r)
		if err != nil {
			return err
		}
		direct = append(direct, p)
		r.Shape(s.link, origin.Faults{})
		all, err := throughMirror(ctx, r, s.clients, program, dir)
		if err != nil {
			return err
		}
		mirrored = append(mirrored, all...)
		requests, sent = requests+r.Counts().BlobRequests, sent+r.Counts().Sent
	}
	d, m := median(direct), median(mirrored)
	fmt.Printf("| %s | %d | %v, %v | %v, %v (slowest %v) | %.2f | %d | %.4f |\n", s.name, s.clients,
		short(d.first), short(d.all), short(m.first), short(m.all), short(slowest(mirrored)), m.all.Seconds()/d.all.Seconds(),
		requests/int64(rounds), float64(sent)/float64(int64(rounds)*int64(s.size)))
	return nil
}

// throughMirror starts a mirror without content and lets clients pull from it at the same moment.
func throughMirror(ctx context.Context, r *registry, clients int, program, dir string) ([]pulled, error) {
	data, err := os.MkdirTemp(dir, "data-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(data)
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	m := exec.CommandContext(ctx, program, "serve", "--set", "server.listen="+address, "--set", "admin.listen=127.0.0.1:0", "--set", "cache.dir="+data,
		"--set", fmt.Sprintf(`upstreams=[{registry: bench.test, default: true, endpoints: ["http://%s"]}]`, r.Address()), "--log-level", "warn")
	m.Stderr = os.Stderr
	if err := m.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = m.Process.Signal(syscall.SIGTERM)
		_ = m.Wait() // it was told to end
	}()
	if err := answers(ctx, "http://"+address+"/v2/"); err != nil {
		return nil, err
	}
	all, failures := make([]pulled, clients), make([]error, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() { all[i], failures[i] = pull("http://"+address, r) })
	}
	wg.Wait()
	for _, err := range failures {
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// answers waits until a server is there.
func answers(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	for range 200 {
		var resp *http.Response
		if resp, err = http.DefaultClient.Do(request); err == nil {
			return resp.Body.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// pull fetches the manifest and then the layer, over one connection of its own, and times the layer.
func pull(base string, r *registry) (pulled, error) {
	client := &http.Client{Transport: &http.Transport{ReadBufferSize: 1 << 20}}
	defer client.CloseIdleConnections()
	if _, _, err := get(client, base+r.image.ManifestPath(origin.Tag)); err != nil {
		return pulled{}, err
	}
	begun := time.Now()
	first, n, err := get(client, base+r.image.LayerPath(0))
	if err == nil && n != r.image.Sizes[0] {
		err = fmt.Errorf("got %d of %d bytes", n, r.image.Sizes[0])
	}
	return pulled{first.Sub(begun), time.Since(begun)}, err
}

// get reads an answer to its end, and returns when its first byte came.
func get(client *http.Client, url string) (first time.Time, n int64, err error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return first, 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return first, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return first, 0, fmt.Errorf("%s: %s", url, resp.Status)
	}
	buf := make([]byte, 1<<20)
	for {
		got, err := resp.Body.Read(buf)
		if n == 0 && got > 0 {
			first = time.Now()
		}
		n += int64(got)
		if err == io.EOF {
			return first, n, nil
		}
		if err != nil {
			return first, n, err
		}
	}
}

func median(all []pulled) pulled {
	slices.SortFunc(all, func(a, b pulled) int { return int(a.all - b.all) })
	p := all[len(all)/2]
	slices.SortFunc(all, func(a, b pulled) int { return int(a.first - b.first) })
	p.first = all[len(all)/2].first
	return p
}

func slowest(all []pulled) (most time.Duration) {
	for _, p := range all {
		most = max(most, p.all)
	}
	return most
}

func short(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
