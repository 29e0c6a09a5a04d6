package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
)

var unnameable = regexp.MustCompile(`[^A-Za-z0-9]+`)

// profileOf takes a CPU profile of the mirror while a scenario runs, when that was asked for. stop waits until it is
// written. It costs the server a few percent, so figures of such a run are not for a table.
func (p *pass) profileOf(ctx context.Context, c scenario, v *server) (stop func()) {
	if p.pprof == "" || v.name != ours {
		return func() {}
	}
	file := filepath.Join(p.pprof, unnameable.ReplaceAllString(c.name+" "+p.network, "-")+".prof")
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := takeProfile(ctx, v, file, max(1, int(p.stand.turn.Seconds()))); err != nil {
			fmt.Fprintf(p.log, "no profile of %s: %v\n", c.name, err)
		}
	})
	return wg.Wait
}

func takeProfile(ctx context.Context, v *server, file string, seconds int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", v.Admin, seconds), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
