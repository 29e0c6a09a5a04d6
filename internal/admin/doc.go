// Package admin answers operators, on a listener of its own: whether the process lives, whether it can serve pulls,
// its metrics and its profiles. Nothing here touches content, and nothing of the registry API is answered here.
package admin
