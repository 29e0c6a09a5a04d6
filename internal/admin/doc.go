// Package admin answers operators, on a listener of its own: whether the process lives, whether it can serve pulls, its
// metrics and its profiles. Below /api/v1/ it lists, removes and pins what is held (docs/api.md), and Client asks for
// that. Nothing of the registry API is answered here.
package admin
