package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"mirror/internal/cache"
	"mirror/internal/oci"
	"mirror/internal/units"
)

// options are the flags.
type options struct {
	rounds  int
	round   time.Duration
	address string
	size    int64
}

// working is how many bytes the blobs of one size have together: more than the processor's cache, as in a mirror.
const working = 64 << 20

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 7, "how often each tier has its turn; the table has the medians")
	flag.DurationVar(&o.round, "round", 200*time.Millisecond, "how long a turn is")
	flag.StringVar(&o.address, "client", "", "read from this address: what the command starts itself with")
	flag.Int64Var(&o.size, "size", 0, "length of each answer, for the client")
	flag.Parse()
	run := compare
	if o.address != "" {
		run = drop
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "memory:", err)
		os.Exit(1)
	}
}

// compare prints the table.
func compare(o options) error {
	fmt.Println("| size | hits per CPU second: memory | page cache | ratio | time of a hit: memory | page cache |")
	fmt.Println("|---|---|---|---|---|---|")
	for _, kib := range []int{1, 4, 16, 64, 256, 1024, 4096} {
		memory, disk, err := compareSize(o, kib<<10)
		if err != nil {
			return fmt.Errorf("%d KiB: %w", kib, err)
		}
		fmt.Printf("| %d KiB | %.0f | %.0f | %.2f | %.0f µs | %.0f µs |\n", kib, memory.perCPU, disk.perCPU, memory.perCPU/disk.perCPU,
			memory.latency.Seconds()*1e6, disk.latency.Seconds()*1e6)
	}
	return nil
}

// figure is what a turn shows.
type figure struct {
	perCPU  float64       // hits for each second of CPU time
	latency time.Duration // from the lookup to the client's word that it has everything
}

// compareSize gives the two tiers their turns one after the other, so that what disturbs the machine disturbs both.
func compareSize(o options, size int) (memory, disk figure, err error) {
	dir, err := os.MkdirTemp("", "mirror-memory-")
	if err != nil {
		return memory, disk, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	tiers, err := openTiers(dir, size)
	if err != nil {
		return memory, disk, err
	}
	defer func() { err = errors.Join(err, tiers[0].cache.Close(), tiers[1].cache.Close()) }()
	conn, stop, err := connect(size)
	if err != nil {
		return memory, disk, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	var figures [2][]figure
	for range o.rounds {
		for i, t := range tiers {
			f, err := t.turn(conn, o.round)
			if err != nil {
				return memory, disk, err
			}
			figures[i] = append(figures[i], f)
		}
	}
	return median(figures[0]), median(figures[1]), nil
}

func median(all []figure) figure {
	byCPU := slices.SortedFunc(slices.Values(all), func(a, b figure) int { return int(a.perCPU - b.perCPU) })
	byTime := slices.SortedFunc(slices.Values(all), func(a, b figure) int { return int(a.latency - b.latency) })
	return figure{byCPU[len(all)/2].perCPU, byTime[len(all)/2].latency}
}

// tier is a cache whose hits all come from one tier.
type tier struct {
	cache   *cache.Cache
	digests []oci.Digest
	want    cache.Tier
}

// openTiers makes a cache with everything in memory, and one without memory.
func openTiers(dir string, size int) (tiers [2]tier, err error) {
	count := min(1024, working/size)
	for i, want := range []cache.Tier{cache.TierMemory, cache.TierDisk} {
		cfg := cache.Config{Dir: filepath.Join(dir, strconv.Itoa(i)), MaxSize: units.GiB}
		if want == cache.TierMemory {
			cfg.Memory = cache.MemoryConfig{MaxSize: 8 * working, MaxBlob: working}
		}
		c, err := cache.Open(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			return tiers, err
		}
		tiers[i] = tier{c, nil, want}
		if tiers[i].digests, err = put(c, size, count); err != nil {
			return tiers, err
		}
		if err := tiers[i].settle(); err != nil {
			return tiers, err
		}
	}
	return tiers, nil
}

func put(c *cache.Cache, size, count int) (digests []oci.Digest, err error) {
	for i := range count {
		b := make([]byte, size)
		rand.Read(b) // pages of zeros would all be one page
		digests = append(digests, oci.DigestOf(oci.SHA256, b))
		if err := c.Put(digests[i], b); err != nil {
			return nil, err
		}
	}
	return digests, nil
}

// settle asks for everything until it comes from where it should.
func (t tier) settle() error {
	for _, d := range t.digests {
		for tries := 0; ; tries++ {
			blob, err := t.cache.Open(d)
			if err != nil {
				return err
			}
			where := blob.Tier()
			_ = blob.Close() // it was not read
			if where == t.want {
				break
			}
			if tries == 1000 {
				return fmt.Errorf("content is served from tier %d, want %d", where, t.want)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// turn sends one blob after the other for a while.
func (t tier) turn(conn net.Conn, round time.Duration) (figure, error) {
	out, word := bufio.NewWriter(conn), make([]byte, 1)
	hits, begin, busy := 0, time.Now(), cpuTime()
	for ; hits == 0 || time.Since(begin) < round; hits++ {
		if err := send(t.cache, t.digests[hits%len(t.digests)], out); err != nil {
			return figure{}, err
		}
		if _, err := io.ReadFull(conn, word); err != nil {
			return figure{}, err
		}
	}
	took, used := time.Since(begin), cpuTime()-busy
	return figure{float64(hits) / used.Seconds(), took / time.Duration(hits)}, nil
}

// send is a hit.
func send(c *cache.Cache, d oci.Digest, out *bufio.Writer) error {
	blob, err := c.Open(d)
	if err != nil {
		return err
	}
	defer blob.Close()
	if _, err := blob.WriteRange(out, 0, -1); err != nil {
		return err
	}
	return out.Flush()
}

// connect starts the client and waits for it. stop ends it.
func connect(size int) (conn net.Conn, stop func() error, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	client := exec.CommandContext(context.Background(), self, "-client", ln.Addr().String(), "-size", strconv.Itoa(size))
	client.Stderr = os.Stderr
	if err := client.Start(); err != nil {
		return nil, nil, err
	}
	conn, err = ln.Accept()
	return conn, func() error { return errors.Join(conn.Close(), client.Wait()) }, err
}

// cpuTime returns what the process has used so far.
func cpuTime() time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
