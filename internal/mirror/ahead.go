package mirror

import (
	"context"

	"mirror/internal/catalog"
	"mirror/internal/upstream"
)

// aheadLimit is how many tags are checked at a time before anybody has to wait for them. A check is short, so few are
// enough; whatever finds no place is checked when it is due.
const aheadLimit = 8

// checkAhead checks a tag that is in use and will soon be due, so that nobody has to wait for it then. This is the first
// thing that ends when the upstream is in trouble or its rate limit shrinks.
func (m *Mirror) checkAhead(ctx context.Context, up *upstream.Registry, key tagName, tag catalog.Tag) {
	if m.troubled.has(key) || m.refusal(key.manifest()) != nil || !up.Available() || !up.Budget().ForBackground() {
		return
	}
	select {
	case m.ahead <- struct{}{}:
	default:
		return
	}
	f, _ := m.startCheck(ctx, up, key, tag)
	m.running.Go(func() {
		<-f.done
		<-m.ahead
	})
}
