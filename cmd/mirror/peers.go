package main

import (
	"fmt"
	"io"
	"time"

	"mirror/internal/admin"
)

// membersShown bounds the list of members in the text; --output json has them all.
const membersShown = 32

// writePeers writes what is exchanged with the other nodes, and who they are.
func writePeers(out io.Writer, s admin.Status, _ time.Time) {
	p := s.Peers
	if p == nil {
		return
	}
	fmt.Fprintf(out, "\npeers\t%d members, %s from them, %s to them\n", len(p.Members), readableSize(p.In), readableSize(p.Out))
	fmt.Fprintf(out, "transfers\t%d redirects, %d slow peers, %d dead, %d fallbacks to a registry, %d refused, %d with wrong bytes\n",
		p.Redirects, p.Slow, p.Dead, p.Fallbacks, p.Refused, p.Wrong)
	fmt.Fprintln(out, "MEMBER\tZONE\tADDRESS\tSTATE")
	for i, m := range p.Members {
		if i == membersShown {
			fmt.Fprintf(out, "and %d more\n", len(p.Members)-membersShown)
			return
		}
		name := m.Name
		if m.Self {
			name += " (this node)"
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", name, m.Zone, m.Transfer, m.State)
	}
}
