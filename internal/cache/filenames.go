package cache

import (
	"path/filepath"
	"strconv"
	"strings"

	"mirror/internal/oci"
)

// Every name below the data directory:
//
//	index.db                     the bbolt file with a record for each complete blob
//	index.db.damaged-<unix>      an index that could not be read, set aside
//	unsynced                     a note of a run with SyncLazy
//	pins                         the digests that must not be evicted, one in a line
//	pins.new                     such a file that is being written
//	pins.damaged-<unix>          one that could not be read in full, set aside
//	blobs/<alg>/<2 hex>/<hex>    complete, verified content, named by its digest
//	partial/<alg>-<hex>.<n>      content that is being filled, or rests; n sets two fills of one digest apart
//	partial/….<n>.journal        what of that file can be relied on after a restart
//	partial/….<n>.journal.new    a journal that is being written
//	quarantine/<alg>-<hex>.<n>   content that was found short or altered; n is when, in seconds since 1970
//
// The start sweeps everything in partial but pairs of a partial file and a good journal. Nothing in quarantine is ever
// served: it is there for whoever looks after the disk, who may delete it at any time.
const (
	indexFile     = "index.db"
	pinsFile      = "pins"
	blobsDir      = "blobs"
	partialDir    = "partial"
	quarantineDir = "quarantine"
	journalSuffix = ".journal"
	newSuffix     = ".new"
)

func blobPath(dir string, d oci.Digest) string {
	encoded := d.Encoded()
	return dir + "/" + blobsDir + "/" + d.Algorithm().String() + "/" + encoded[:2] + "/" + encoded // each hit on a file needs it
}

func partialPath(dir string, d oci.Digest, n uint64) string {
	return filepath.Join(dir, partialDir, numbered(d, n))
}

func quarantinePath(dir string, d oci.Digest, at uint64) string {
	return filepath.Join(dir, quarantineDir, numbered(d, at))
}

// numbered returns the name of a file for d that is one of several.
func numbered(d oci.Digest, n uint64) string {
	return d.Algorithm().String() + "-" + d.Encoded() + "." + strconv.FormatUint(n, 10)
}

// journalPath returns where the journal of a partial file is.
func journalPath(partial string) string { return partial + journalSuffix }

// isJournal reports whether a name in the directory of partial files is that of a journal, complete or not.
func isJournal(name string) bool {
	return strings.HasSuffix(strings.TrimSuffix(name, newSuffix), journalSuffix)
}

// parseNumbered is the inverse of numbered.
func parseNumbered(name string) (d oci.Digest, n uint64, ok bool) {
	base, number, _ := strings.Cut(name, ".")
	algorithm, encoded, _ := strings.Cut(base, "-")
	d, err := oci.ParseDigest(algorithm + ":" + encoded)
	if err != nil {
		return oci.Digest{}, 0, false
	}
	n, err = strconv.ParseUint(number, 10, 64)
	return d, n, err == nil
}

// digestOfName returns the digest of complete content from the name of its file, which is the hexadecimal part.
func digestOfName(alg oci.Algorithm, name string) (oci.Digest, bool) {
	var room [160]byte // more than the longest digest, so that nothing is allocated
	text := append(room[:0], alg.String()...)
	text = append(text, ':')
	d, err := oci.ParseDigest(append(text, name...))
	return d, err == nil
}
