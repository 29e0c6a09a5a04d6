package mirror

import (
	"time"

	"mirror/internal/cache"
	"mirror/internal/oci"
)

// tree is a manifest and what it refers to, as far as the manifests that are held tell. Every digest is in it once. Content
// that is no manifest is a tree of itself.
type tree struct {
	root  oci.Digest
	nodes map[oci.Digest]*node
}

// node is content that a tree refers to, held or not.
type node struct {
	mediaType string
	content   cache.Content
	held      bool
	// isManifest tells manifests from blobs: by the bytes for the root, by what refers to it for every other node.
	isManifest bool
	children   []oci.Descriptor
}

// treeOf reads a tree without counting as a use of anything in it. The depth is what strangers made it: the walk has a
// queue, and meets each digest once.
func (m *Mirror) treeOf(root oci.Descriptor) *tree {
	t := &tree{root: root.Digest, nodes: make(map[oci.Digest]*node)}
	for queue := []oci.Descriptor{root}; len(queue) > 0; queue = queue[1:] {
		d := queue[0]
		if t.nodes[d.Digest] != nil {
			continue
		}
		n := &node{mediaType: d.MediaType}
		n.content, n.held = m.cache.Content(d.Digest)
		if d.Digest == root.Digest || oci.IsManifestType(d.MediaType) {
			n.children, n.isManifest = m.childrenOf(d)
			n.isManifest = n.isManifest || oci.IsManifestType(d.MediaType)
		}
		t.nodes[d.Digest] = n
		queue = append(queue, n.children...)
	}
	return t
}

// childrenOf returns what a manifest that is held refers to, and whether it could be read as one. What cannot be read
// refers to nothing: it is damaged, and will be fetched again.
func (m *Mirror) childrenOf(d oci.Descriptor) ([]oci.Descriptor, bool) {
	body, err := m.cache.Peek(d.Digest, manifestLimit)
	if err != nil {
		return nil, false
	}
	parsed, err := oci.ParseManifest(d.MediaType, body)
	return parsed.Children, err == nil && (oci.IsManifestType(parsed.MediaType) || len(parsed.Children) > 0)
}

// digests returns everything in the tree, held or not.
func (t *tree) digests() []oci.Digest {
	all := make([]oci.Digest, 0, len(t.nodes))
	for d := range t.nodes {
		all = append(all, d)
	}
	return all
}

// closed grows a set of nodes by everything that they refer to.
func (t *tree) closed(kept map[oci.Digest]bool) map[oci.Digest]bool {
	var queue []oci.Digest
	for d := range kept {
		queue = append(queue, d)
	}
	for ; len(queue) > 0; queue = queue[1:] {
		for _, child := range t.nodes[queue[0]].children {
			if !kept[child.Digest] {
				kept[child.Digest] = true
				queue = append(queue, child.Digest)
			}
		}
	}
	return kept
}

// State says how much of an image is held.
type State string

// The states. Absent: the manifest itself is not held. Partial: something is missing that the manifests which are held
// refer to. Complete: nothing is; of an index, that is what one of its platforms needs, at least.
const (
	Absent   State = "absent"
	Partial  State = "partial"
	Complete State = "complete"
)

// Count says how many are held of how many that are known.
type Count struct {
	Held  int `json:"held"`
	Known int `json:"known"`
}

func (c *Count) add(held bool) {
	c.Known++
	if held {
		c.Held++
	}
}

// Holding says what is held of an image.
type Holding struct {
	State State
	// Size is how many bytes of it are held, what it shares with other images included.
	Size int64
	// Manifests and Blobs count what it refers to, itself included. What the manifests of an index refer to is known for
	// those that are held.
	Manifests, Blobs Count
	// Stored is when the manifest came here, Used when it or a manifest of the index was last asked for; both are zero when
	// it is absent.
	Stored, Used time.Time
	Pinned       bool
}

// holding sums a tree up.
func (t *tree) holding() Holding {
	root := t.nodes[t.root]
	h := Holding{State: Absent, Stored: root.content.Stored, Pinned: root.content.Pinned}
	for _, n := range t.nodes {
		h.Size += n.content.Size
		if !n.isManifest {
			h.Blobs.add(n.held)
			continue
		}
		h.Manifests.add(n.held)
		if n.content.Used.After(h.Used) {
			h.Used = n.content.Used
		}
	}
	switch {
	case !root.held:
	case h.Blobs.Held < h.Blobs.Known, h.Manifests.Known > 1 && h.Manifests.Held == 1:
		h.State = Partial
	default:
		h.State = Complete
	}
	return h
}
