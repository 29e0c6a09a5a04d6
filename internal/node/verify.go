package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"

	"mirror/internal/cache"
	"mirror/internal/catalog"
	"mirror/internal/config"
	"mirror/internal/oci"
)

// Damage is a stored blob whose file is missing, or is not what the digest names.
type Damage struct {
	Digest       oci.Digest
	Repositories []oci.Repository // that are known to have it; clients of those may have got wrong bytes
	Err          error            // what is wrong
}

// Verify re-reads everything in the data directory of a node that is not running, and calls report for each blob that is
// damaged. With repair such blobs are moved into quarantine, and the next node fetches them again. A data directory that
// is missing or in use is an error.
func Verify(ctx context.Context, cfg config.Config, repair bool, log *slog.Logger, report func(Damage)) (seen cache.Verified, err error) {
	if _, err := os.Stat(cfg.Cache.Dir); err != nil {
		return seen, fmt.Errorf("find data directory: %w (cache.dir names another)", err)
	}
	names, content, err := openStores(cfg.Cache, log)
	if err != nil {
		return seen, err
	}
	defer func() { err = errors.Join(err, content.Close(), names.Close()) }()
	return content.Verify(ctx, repair, func(d oci.Digest, damage error) {
		report(Damage{Digest: d, Repositories: names.Repositories(d), Err: damage})
	})
}

// openStores opens the data directory for inspection: nothing is evicted, whatever limit the configuration has, and
// nothing is kept in memory.
func openStores(cfg cache.Config, log *slog.Logger) (*catalog.Catalog, *cache.Cache, error) {
	reg := newRegistry("") // nobody scrapes it
	names, err := catalog.Open(catalog.Config{Dir: cfg.Dir}, log, reg)
	if errors.Is(err, catalog.ErrInUse) {
		return nil, nil, fmt.Errorf("%w: stop the mirror that serves it first", err)
	}
	if err != nil {
		return nil, nil, adviseOnDirectory(cfg.Dir, err)
	}
	cfg.MaxSize, cfg.Memory, cfg.Scrub = math.MaxInt64, cache.MemoryConfig{}, cache.ScrubConfig{}
	content, err := cache.Open(cfg, log, reg)
	if err != nil {
		return nil, nil, errors.Join(adviseOnDirectory(cfg.Dir, err), names.Close())
	}
	return names, content, nil
}
