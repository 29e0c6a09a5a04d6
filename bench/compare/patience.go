package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"mirror/bench/drain"
	"mirror/bench/origin"
)

const (
	slowReaders = 100
	slowRate    = 1 << 20 // bytes per second of each
	slowSip     = 256 << 10
	idlers      = 10_000
	// fromOneAddress is how many clients share an address of 127.0.0.0/8: fewer than a mirror lets in from one.
	fromOneAddress = 2000
)

// runSlow has slow readers pull the longest layer while one client asks for a manifest again and again, whose times it
// reports.
func runSlow(ctx context.Context, s *stand, v *server) (f figure, err error) {
	image := s.image("large")
	ctx, cancel := context.WithTimeout(ctx, s.turn+warmUp+time.Second)
	defer cancel()
	sipped := make(chan int64, slowReaders)
	sipping := make(chan error, 1)
	go func() {
		sipping <- together(slowReaders, func() error { return sip(ctx, v.Address, image.LayerPath(0), s.turn+warmUp, sipped) })
	}()
	f, err = runLoop(1, requests, manifest(http.MethodGet, true))(ctx, s, v)
	err = errors.Join(err, <-sipping)
	f.Count = 0
	for range len(sipped) {
		f.Count += float64(<-sipped)
	}
	f.Count *= f.Elapsed.Seconds() / (s.turn + warmUp).Seconds() // what came in the time that was measured
	return f, err
}

// sip reads a layer at slowRate for a while, and then leaves.
func sip(ctx context.Context, address, path string, d time.Duration, sipped chan<- int64) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, address); err != nil {
		return err
	}
	begun, total := time.Now(), int64(0)
	for time.Since(begun) < d {
		if err := drain.Drop(conn.(*net.TCPConn), slowSip, nil); err != nil {
			return err
		}
		total += slowSip
		time.Sleep(time.Until(begun.Add(time.Duration(total) * time.Second / slowRate)))
	}
	sipped <- total
	return nil
}

// runIdle opens connections that ask once and then stay.
func runIdle(ctx context.Context, s *stand, v *server) (f figure, err error) {
	path := s.image("tiny").ManifestPath(origin.Tag)
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close() // nothing more is read
		}
	}()
	w, err := s.open(v)
	if err != nil {
		return f, err
	}
	for n := range idlers {
		conn, err := idle(ctx, v.Address, n/fromOneAddress, path)
		if err != nil {
			return f, fmt.Errorf("connection %d: %w", n, err)
		}
		open = append(open, conn)
	}
	f.Count = idlers
	return f, w.close(&f)
}

// idle connects from the n-th loopback address and asks for one thing.
func idle(ctx context.Context, address string, n int, path string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+n))}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: %s\r\n\r\n", path, address, origin.ManifestType); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	defer resp.Body.Close()
	if _, err = io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}
