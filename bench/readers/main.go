package main

import (
	"flag"
	"fmt"
	"os"

	"mirror/internal/oci"
	"mirror/internal/units"
)

// options are the flags.
type options struct {
	readers int
	size    int64 // of the layer, in bytes
	rate    int64 // of the upstream, in bytes per second
	role    string
	address string // of the registry, or of the server
	dir     string
	digest  string
	trace   string
}

func main() {
	o, err := parse()
	if err == nil {
		err = map[string]func(options) error{"": compare, "server": serve, "clients": readAll}[o.role](o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "readers:", err)
		os.Exit(1)
	}
}

func parse() (o options, err error) {
	flag.IntVar(&o.readers, "readers", 10_000, "clients that read the layer at the same time")
	size := flag.String("size", "32MiB", "length of the layer")
	rate := flag.String("rate", "1MiB", "what the upstream delivers in a second")
	flag.StringVar(&o.trace, "profile", "", "write a CPU profile of the server to this file")
	flag.StringVar(&o.role, "role", "", "what the command starts itself as: server or clients")
	flag.StringVar(&o.address, "address", "", "of the registry, for the server, or of the server, for the clients")
	flag.StringVar(&o.dir, "dir", "", "data directory of the server")
	flag.StringVar(&o.digest, "digest", "", "of the layer")
	flag.Parse()
	for text, target := range map[*string]*int64{size: &o.size, rate: &o.rate} {
		n, err := units.ParseBytes(*text)
		if err != nil {
			return o, err
		}
		*target = int64(n)
	}
	if _, ok := map[string]bool{"": true, "server": true, "clients": true}[o.role]; !ok {
		return o, fmt.Errorf("-role %q is unknown", o.role)
	}
	return o, nil
}

// repository is where the registry has the layer.
const repository = "org/app"

func blobPath(d oci.Digest) string { return "/v2/" + repository + "/blobs/" + d.String() }
