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
//	blobs/<alg>/<2 hex>/<hex>    complete, verified content, named by its digest
//	partial/<alg>-<hex>.<n>      content that is being filled; n sets two fills of one digest apart; swept at start
const (
	indexFile  = "index.db"
	blobsDir   = "blobs"
	partialDir = "partial"
)

func blobPath(dir string, d oci.Digest) string {
	encoded := d.Encoded()
	return filepath.Join(dir, blobsDir, d.Algorithm().String(), encoded[:2], encoded)
}

func partialPath(dir string, d oci.Digest, n uint64) string {
	return filepath.Join(dir, partialDir, d.Algorithm().String()+"-"+d.Encoded()+"."+strconv.FormatUint(n, 10))
}

// digestOfPath is the inverse of blobPath for a path relative to the blobs directory.
func digestOfPath(relative string) (oci.Digest, bool) {
	parts := strings.Split(filepath.ToSlash(relative), "/")
	if len(parts) != 3 || len(parts[1]) != 2 || !strings.HasPrefix(parts[2], parts[1]) {
		return oci.Digest{}, false
	}
	d, err := oci.ParseDigest(parts[0] + ":" + parts[2])
	return d, err == nil
}
