package main

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"mirror/internal/catalog"
	"mirror/internal/oci"
)

const (
	// blobsPerRepository: a million blobs in 20,000 repositories.
	blobsPerRepository = 50
	// blobSize is the length that records claim. The total has to stay below the limit of the cache that is measured.
	blobSize = 16 << 10
	// atOnce is how many records go into one transaction.
	atOnce = 10_000
)

// digestNumber returns the digest of the n-th blob.
func digestNumber(n int) oci.Digest {
	return oci.DigestOf(oci.SHA256, binary.LittleEndian.AppendUint64(nil, uint64(n)))
}

// repositoryNumber returns the repository that links the n-th blob.
func repositoryNumber(n int) oci.Repository {
	return oci.Repository{Registry: "docker.io", Name: fmt.Sprintf("organisation-%d/image-%d", n/1000, n/blobsPerRepository)}
}

// makeDirectory makes a data directory like one of a node that has run for long: records in no order, one link for each
// blob. Without files the records lead nowhere, which a start does not notice.
func makeDirectory(dir string, blobs int, files bool) error {
	if err := makeRecords(filepath.Join(dir, "index.db"), blobs); err != nil {
		return fmt.Errorf("make records: %w", err)
	}
	if err := makeLinks(dir, blobs); err != nil {
		return fmt.Errorf("make links: %w", err)
	}
	if !files {
		return nil
	}
	return makeFiles(filepath.Join(dir, "blobs", "sha256"), blobs)
}

// makeRecords writes the index file of the cache as its records.go describes it. The cache itself would sync each file.
func makeRecords(path string, blobs int) (err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	now := time.Now().Unix()
	for from := 0; from < blobs; from += atOnce {
		keys := make([][]byte, 0, atOnce)
		for n := from; n < min(blobs, from+atOnce); n++ {
			keys = append(keys, digestNumber(n).Binary())
		}
		slices.SortFunc(keys, slices.Compare)
		if err := db.Update(func(tx *bbolt.Tx) error { return putRecords(tx, keys, now) }); err != nil {
			return err
		}
	}
	return db.Sync()
}

func putRecords(tx *bbolt.Tx, keys [][]byte, now int64) error {
	blobs, err := tx.CreateBucketIfNotExists([]byte("blobs"))
	used, err2 := tx.CreateBucketIfNotExists([]byte("used"))
	if err := cmp.Or(err, err2); err != nil {
		return err
	}
	record := binary.LittleEndian.AppendUint64([]byte{1}, blobSize)
	record = binary.LittleEndian.AppendUint64(record, uint64(now))
	use := binary.LittleEndian.AppendUint64(nil, uint64(now)<<16|1<<8)
	for _, key := range keys {
		if err := errors.Join(blobs.Put(key, record), used.Put(key, use)); err != nil {
			return err
		}
	}
	return nil
}

// makeLinks has the catalog write its own file.
func makeLinks(dir string, blobs int) error {
	names, err := catalog.Open(catalog.Config{Dir: dir}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		return err
	}
	for from := 0; from < blobs; from += blobsPerRepository {
		links := make(map[oci.Digest]catalog.Link)
		for n := from; n < min(blobs, from+blobsPerRepository); n++ {
			links[digestNumber(n)] = catalog.Link{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Size: blobSize, Confirmed: true}
		}
		names.SetLinks(repositoryNumber(from), links)
	}
	return names.Close()
}

// makeFiles makes an empty file for each blob.
func makeFiles(dir string, blobs int) error {
	for n := range 256 {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("%02x", n)), 0o700); err != nil {
			return err
		}
	}
	for n := range blobs {
		encoded := digestNumber(n).Encoded()
		file, err := os.OpenFile(filepath.Join(dir, encoded[:2], encoded), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	return nil
}

// forget takes the databases out of the page cache, as after a start of the machine.
func forget(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	databases := slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return !strings.HasSuffix(e.Name(), ".db") })
	for _, entry := range databases {
		if err := forgetFile(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func forgetFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Sync(); err != nil { // what is not written yet cannot be forgotten
		return err
	}
	return unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
}
