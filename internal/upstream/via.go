package upstream

import "context"

// viaKey is the key of a context's Via.
type viaKey struct{}

// WithVia returns a context whose requests name, before this instance, the proxies that a client's request has come
// through. Without it a circle of several mirrors would not be noticed: each would name itself alone. via is the value of
// a Via header, or empty.
func WithVia(ctx context.Context, via string) context.Context {
	if via == "" {
		return ctx
	}
	return context.WithValue(ctx, viaKey{}, via)
}

// ViaOf returns what WithVia has put into the context, or nothing.
func ViaOf(ctx context.Context) string {
	via, _ := ctx.Value(viaKey{}).(string)
	return via
}

// viaFor is the Via header of a request under ctx.
func (r *Registry) viaFor(ctx context.Context) string {
	if before := ViaOf(ctx); before != "" {
		return before + ", " + r.via
	}
	return r.via
}
