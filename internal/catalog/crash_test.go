package catalog_test

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"mirror/internal/catalog"
	"mirror/internal/oci"
)

// childWrites sets tags and links from several goroutines until it is killed, and prints each tag once it is durable.
func childWrites(dir string) {
	c, err := catalog.Open(catalog.Config{Dir: dir}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	const writers = 4
	for w := range writers {
		go func() {
			for n := w; ; n += writers {
				repo := oci.Repository{Registry: "docker.io", Name: fmt.Sprint("r", n%7)}
				c.SetLinks(repo, map[oci.Digest]catalog.Link{numbered(n): {Size: int64(n), Confirmed: true}})
				if err := c.SetTag(repo, fmt.Sprint("t", n), pointing(n)); err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				fmt.Println("ok", n)
			}
		}()
	}
	select {}
}

// childOpens prints what opening a catalog gives.
func childOpens(dir string) {
	_, err := catalog.Open(catalog.Config{Dir: dir}, slog.New(slog.DiscardHandler), nil)
	fmt.Println(errors.Is(err, catalog.ErrInUse), err)
}

// child returns a command that runs this binary as another process.
func child(t *testing.T, what, dir string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0], dir)
	command.Env = append(os.Environ(), childVariable+"="+what)
	command.Stderr = os.Stderr
	return command
}

func TestKilledProcessKeepsAcknowledgedTags(t *testing.T) {
	dir := t.TempDir()
	acknowledged := make(map[int]bool)
	for round := 1; round <= 3; round++ {
		for _, n := range writeAndKill(t, dir, 100*round) {
			acknowledged[n] = true
		}
		c := open(t, dir)
		for n := range acknowledged {
			repo := oci.Repository{Registry: "docker.io", Name: fmt.Sprint("r", n%7)}
			wantTag(t, c, repo, fmt.Sprint("t", n), pointing(n))
			wantLink(t, c, repo, numbered(n), &catalog.Link{Size: int64(n), Confirmed: true})
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// writeAndKill runs childWrites until it has acknowledged so many tags, kills it, and returns all that it acknowledged.
func writeAndKill(t *testing.T, dir string, tags int) []int {
	t.Helper()
	command := child(t, "write", dir)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []int
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var n int
		if _, err := fmt.Sscanf(lines.Text(), "ok %d", &n); err != nil {
			t.Fatalf("child says %q", lines.Text())
		}
		// The pipe holds more lines when the kill comes: those count as well.
		if acknowledged = append(acknowledged, n); len(acknowledged) == tags {
			if err := command.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := command.Wait(); err == nil || len(acknowledged) < tags {
		t.Fatalf("child ended by itself after %d tags: %v", len(acknowledged), err)
	}
	return acknowledged
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	mustSetTag(t, c, debian, "latest", pointing(1))
	out, err := child(t, "open", dir).Output()
	if err != nil || !strings.HasPrefix(string(out), "true ") || !strings.Contains(string(out), "another process owns this data directory") {
		t.Fatalf("second process says %q, %v", out, err)
	}
	mustSetTag(t, c, debian, "latest", pointing(2))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := child(t, "open", dir).Output(); err != nil || string(out) != "false <nil>\n" {
		t.Fatalf("second process says %q after the first has ended, %v", out, err)
	}
	wantTag(t, open(t, dir), debian, "latest", pointing(2))
}
